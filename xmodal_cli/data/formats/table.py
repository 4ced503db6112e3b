"""Any table with a column of images and one of captions: ``.csv`` or ``.tsv``, one file or one per split.

The ``metadata.csv`` of Hugging Face's imagefolder (``file_name``, ``text``) is read too, also in the folders of its
splits.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.caption_tables import find_layout
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import find_files
from xmodal_cli.data.formats._tables import read_tables

PRIORITY = 55
SUFFIXES = (".csv", ".tsv", ".txt", ".gz")
PATTERNS = ("*.csv", "*.tsv", "*.csv.gz", "*.tsv.gz")
TEXT_PATTERNS = ("*caption*.txt", "*comment*.txt", "*annotation*.txt", "*results*.txt", "*token*.txt")
METADATA = ("*/metadata.csv", "*/metadata.tsv")  # one per split


def matches(path: Path) -> bool:
    """A table with known columns, or a folder that contains one; reads the first line of tables."""
    if path.is_file() and path.name.lower().endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz")):
        return True  # an unknown header is reported by ``read``
    return bool(_tables(path))


def read(path: Path) -> DatasetContents:
    """Splits are those of a column, or in the names of files and folders (``val.csv``), else ``split_by_hash``.

    Raises BadData, also for a table with unknown columns.
    """
    return read_tables(_tables(path) or [path], path)


def _tables(path: Path) -> list[Path]:
    patterns = (*PATTERNS, "*.txt") if path.is_file() else (*PATTERNS, *TEXT_PATTERNS)
    tables = [file for file in find_files(path, *patterns) if find_layout(file) is not None]
    if tables or path.is_file():
        return tables
    return [file for file in find_files(path, *METADATA) if find_layout(file) is not None]
