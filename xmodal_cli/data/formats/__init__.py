"""Dataset formats: one file = one format.

A format module has

- ``PRIORITY``: an int of its own; where a path fits several formats, the smallest is taken;
- ``matches(path) -> bool``: a quick look at names, no parsing; an empty folder is in no format;
- ``read(path) -> tuple[Example, ...]``: raises BadData that names the file, the entry and the reason;
- ``SUFFIXES``, if single files are in the format: their suffixes, such as ``(".csv",)``. A name that ends so is a path,
  and not a misspelt name of a dataset.
"""
