"""Kaggle's tables: ``captions.txt`` (image,caption) and ``results.csv`` (image_name| comment_number| comment)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from xmodal_cli.data.formats._common import build_examples, first_file
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import read_lines, read_text
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 30
SUFFIXES = (".csv", ".txt")
HEADERS = {"captions.txt": ("image", ","), "captions.csv": ("image", ","), "results.csv": ("image_name", "|")}
COMMENT_NUMBER = re.compile(r"\s*\d+\s*\|?")  # one line of Kaggle's Flickr30k has no delimiter after it


def matches(path: Path) -> bool:
    """A table with the expected first column, or the folder that contains it."""
    return _table(path) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Splits are those of official split lists in the same folder, else ``split_by_hash``. Raises BadData."""
    file = _table(path) or path
    rows = _pipe_rows(file) if HEADERS[file.name][1] == "|" else _comma_rows(file)
    captions: dict[str, list[str]] = {}
    for line, name, caption in rows:
        if not is_image_name(name) or not caption.strip():
            raise BadData(
                f"{file}, line {line} is not an image file name and a caption", f"it begins with {name[:60]!r}"
            )
        captions.setdefault(name, []).append(caption.strip())
    return build_examples(file, captions)


def _comma_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, name, caption); a caption with commas need not be quoted."""
    table = csv.reader(StringIO(read_text(file)), strict=True)
    try:
        next(table)
        for row in filter(None, table):
            yield table.line_num, row[0].strip(), ",".join(row[1:]).replace("\n", " ")
    except csv.Error as error:
        hint = "double the quotes inside a quoted caption"
        raise BadData(f"{file}, line {table.line_num} is not valid CSV: {error}", hint) from error


def _pipe_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, name, caption); quotes are plain characters."""
    for line_number, line in enumerate(read_lines(file), 1):
        name, _, rest = line.partition("|")
        if line_number > 1 and line.strip():
            yield line_number, name.strip(), COMMENT_NUMBER.sub("", rest, count=1)


def _table(path: Path) -> Path | None:
    for name, (first, delimiter) in HEADERS.items():
        file = first_file(path, name)
        if file is not None and _first_line(file).split(delimiter)[0].strip().lower() == first:
            return file
    return None


def _first_line(file: Path) -> str:
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as lines:
            return lines.readline(1000)
    except OSError:
        return ""
