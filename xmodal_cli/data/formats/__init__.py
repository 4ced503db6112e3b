"""Dataset formats, one module per format.

A format module has

- ``PRIORITY``: a unique int; if several formats match a path, the one with the smallest is used;
- ``matches(path) -> bool``: checks file names, and at most the beginning of a file; False for an empty folder;
- ``read(path)``: the examples, a tuple, or ``DatasetContents`` with the rows that cannot be used. A bad row costs one
  row; raises BadData with the file, the entry and the reason if no row can be used;
- ``SUFFIXES``, if a single file can be in the format: its suffixes, such as ``(".csv",)``. A dataset argument with such
  a suffix is a path, not a misspelled dataset name.
"""
