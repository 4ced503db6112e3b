"""Formats of precomputed region features, one module per format; ``data.region_reading`` detects them.

A format module has

- ``PRIORITY``: if several formats match a path, the one with the smallest is used;
- ``matches(path) -> bool``: checks names, and at most the first line of a file;
- ``files(path) -> list[Path]``: all files that are read, for the fingerprint;
- ``locations(path) -> dict[str, LOCATION]``: image name -> location of its regions, of a type of the format;
- ``read(location) -> Regions``: the regions of one image. Raises BadData with the file, the line and the reason.

Only the regions of one image are in memory at a time. Modules with an underscore are shared by the formats.
"""
