"""The tables of Kaggle: ``captions.txt`` (``image,caption``) and ``results.csv`` (``image_name| number| comment``)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from xmodal_cli.data.formats._common import listed_examples, only_file
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import read_lines, read_text
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 30
SUFFIXES = (".csv", ".txt")
HEADERS = {"captions.txt": ("image", ","), "captions.csv": ("image", ","), "results.csv": ("image_name", "|")}
NUMBER = re.compile(r"\s*\d+\s*\|?")  # a caption's number; one line of Kaggle's Flickr30k lacks the bar after it


def matches(path: Path) -> bool:
    """A table with the right first word, or the folder that holds it."""
    return _table(path) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Splits come from official lists beside the table; without them they are invented from the names."""
    file = _table(path) or path
    rows = _bar_rows(file) if HEADERS[file.name][1] == "|" else _comma_rows(file)
    captions: dict[str, list[str]] = {}
    for line, name, caption in rows:
        if not is_image_name(name) or not caption.strip():
            raise BadData(f"{file}, line {line} is not a picture's name and a caption", f"it begins {name[:60]!r}")
        captions.setdefault(name, []).append(caption.strip())
    return listed_examples(file, captions)


def _comma_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, name, caption); a caption with commas need not stand in quotes."""
    table = csv.reader(StringIO(read_text(file)), strict=True)
    try:
        next(table)
        for row in filter(None, table):
            yield table.line_num, row[0].strip(), ",".join(row[1:]).replace("\n", " ")
    except csv.Error as error:
        hint = "quotes inside a quoted caption are written twice"
        raise BadData(f"{file}, line {table.line_num} cannot be used: {error}", hint) from error


def _bar_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, name, caption); quotes have no meaning."""
    for number, line in enumerate(read_lines(file), 1):
        name, _, rest = line.partition("|")
        if number > 1 and line.strip():
            yield number, name.strip(), NUMBER.sub("", rest, count=1)


def _table(path: Path) -> Path | None:
    for name, (first, delimiter) in HEADERS.items():
        file = only_file(path, name)
        if file is not None and _first_line(file).split(delimiter)[0].strip().lower() == first:
            return file
    return None


def _first_line(file: Path) -> str:
    try:
        with open(file, encoding="utf-8-sig", errors="replace") as lines:
            return lines.readline(1000)
    except OSError:
        return ""
