"""Files of regions that a detector elsewhere made: one file here = one format, found by ``data.region_reading``.

A format has

- ``PRIORITY``: where several fit, the smallest is taken;
- ``matches(path) -> bool``: by names, and at most the first line of a file;
- ``files(path) -> list[Path]``: everything that is read of it, for its fingerprint;
- ``places(path) -> dict[str, PLACE]``: for each image, by the name it has there, where its regions stand;
- ``read(place) -> Regions``: the regions of one image. Raises BadData that names the file, the line and the reason.

Reading is by place, so a file of any size is never in memory as a whole. Files with an underscore are
what the formats share.
"""
