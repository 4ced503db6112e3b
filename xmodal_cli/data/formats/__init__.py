"""One file = one dataset format.

A format module has ``PRIORITY`` (an int; the smallest looks first), ``matches(path) -> bool`` (a quick look at
names, no parsing) and ``read(path) -> tuple[Example, ...]``. It raises BadData that names the file, the entry and the
reason.
"""
