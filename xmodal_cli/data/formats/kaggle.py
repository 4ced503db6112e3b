"""The tables that Kaggle carries: ``captions.txt`` (``image,caption``), ``results.csv`` (``image_name| ..| comment``)."""

from __future__ import annotations

import csv
from pathlib import Path

from xmodal_cli.data.formats._common import find_pictures, invented_split, only_file, read_text
from xmodal_cli.data.formats.flickr8k import split_lists
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 30
HEADERS = {"captions.txt": ("image", ","), "captions.csv": ("image", ","), "results.csv": ("image_name", "|")}


def matches(path: Path) -> bool:
    """A table with the right first word, or the folder that holds it."""
    return _table(path) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Splits come from official lists beside the table; without them they are invented from the names."""
    file = _table(path) or path
    delimiter = HEADERS.get(file.name, ("", ","))[1]
    captions: dict[str, list[str]] = {}
    rows = csv.reader(read_text(file).splitlines(), delimiter=delimiter, skipinitialspace=True)
    next(rows, None)
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) < 2:
            raise BadData(f"{file}, line {number} has no caption", f"it reads {row[0][:60]!r}")
        text = row[-1] if delimiter == "|" else f"{delimiter} ".join(row[1:])
        captions.setdefault(row[0].strip(), []).append(text.strip())
    if not captions:
        raise BadData(f"{file} holds no captions", "its first line must be image,caption")
    splits = split_lists(file.parent)
    pictures = find_pictures(file.parent, next(iter(captions)))
    return tuple(
        Example(n, pictures / n, tuple(c), splits.get(n, "unused") if splits else invented_split(n))
        for n, c in captions.items()
    )


def _table(path: Path) -> Path | None:
    for name, (first, delimiter) in HEADERS.items():
        file = only_file(path, name)
        if file is not None and _first_line(file).split(delimiter)[0].strip().lower() == first:
            return file
    return None


def _first_line(file: Path) -> str:
    with open(file, encoding="utf-8-sig", errors="replace") as lines:
        return lines.readline()
