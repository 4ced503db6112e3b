"""Kaggle's tables: ``captions.txt`` or ``captions.csv`` (image,caption), ``results.csv`` (image_name| ...| comment)."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.caption_tables import find_layout
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import first_file
from xmodal_cli.data.formats._tables import read_tables

PRIORITY = 30
SUFFIXES = (".csv", ".txt")
NAMES = ("captions.txt", "captions.csv", "results.csv", "results.txt")


def matches(path: Path) -> bool:
    """A table of one of the names with known columns, or the folder that contains it; reads its first line."""
    return _table(path) is not None


def read(path: Path) -> DatasetContents:
    """Splits are those of a column or of official split lists, else ``split_by_hash``. Raises BadData."""
    return read_tables([_table(path) or path], path)


def _table(path: Path) -> Path | None:
    files = (first_file(path, name) for name in NAMES)
    return next((file for file in files if file is not None and find_layout(file) is not None), None)
