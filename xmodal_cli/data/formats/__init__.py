"""One file = one dataset format.

A format module has ``matches(path) -> bool`` (a quick look, no parsing) and ``read(path) -> ImageTextDataset``;
``PRIORITY`` (an int, default 50) settles which one looks first, the smallest."""
