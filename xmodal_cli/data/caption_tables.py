"""Tables of images and captions: comma-, semicolon-, tab- or pipe-separated, with their columns found by name.

Rows are read one by one: a caption with quotes or delimiters that are not escaped costs nothing where the row can still
be understood, and otherwise one row.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.caption_columns import (
    FILE_COLUMNS,
    ID_COLUMNS,
    SPLIT_COLUMNS,
    caption_columns,
    cell_captions,
    find_column,
    normalize_name,
)
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import is_text, read_rows, read_start

DELIMITERS = ("\t", "|", ";", ",")
_NUMBERED_NAME = re.compile(r"(?P<name>.*)#\d+")  # of the token files: a.jpg#0
_SEPARATOR = re.compile(r"\ufeff?sep=.\s*", re.IGNORECASE)  # the first line that Excel writes and reads
_NUMBER = re.compile(r"\s*\d+\s*")
_MAX_LINES = 50  # of a quoted caption
_MAX_CAPTION = 100_000  # characters


@dataclass(frozen=True)
class TableLayout:
    """The columns of a table. ``image_is_id``: the image column has ids, which are file names without suffix."""

    delimiter: str
    columns: tuple[str, ...]  # normalized names; of a table without header, made up
    image: int
    captions: tuple[int, ...]
    split: int | None = None
    has_header: bool = True
    image_is_id: bool = False


@dataclass(frozen=True)
class TableRow:
    """A row: its line, and either image, captions and split, or the ``problem`` for which it cannot be used."""

    line: int
    image: str = ""
    captions: tuple[str, ...] = ()
    split: str = ""
    problem: str = ""


def find_layout(file: Path) -> TableLayout | None:
    """The layout of a table from its first line; None if its columns are unknown."""
    first = next(_table_lines(read_start(file)), "")
    for delimiter in DELIMITERS:
        layout = _header_layout(first, delimiter)
        if layout is not None:
            return layout
    return next(filter(None, (_plain_layout(first, delimiter) for delimiter in DELIMITERS)), None)


def header_of(file: Path) -> str:
    """The first line of a file for messages, "" if it is empty."""
    first = next(_table_lines(read_start(file)), "").strip()
    return first if len(first) <= 120 else f"{first[:120]}..."


def _table_lines(text: str) -> Iterator[str]:
    return (line for line in text.split("\n") if _is_content(line))


def _is_content(line: str) -> bool:
    return bool(line.strip()) and _SEPARATOR.fullmatch(line) is None


def is_table(file: Path) -> bool:
    """Whether the first line of a text file has several columns."""
    header = header_of(file)
    return any(len(_split_cells(header, delimiter)) > 1 for delimiter in DELIMITERS)


def read_table(file: Path, layout: TableLayout) -> Iterator[TableRow]:
    """The rows of a table, in order; empty ones are omitted. Raises BadData if the file cannot be read."""
    lines = read_rows(file)
    start = next((n for n, line in enumerate(lines) if _is_content(line)), 0) + int(layout.has_header)
    position = start
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        cells, used = _split_record(lines, position, layout)
        yield _parse_row(position + 1, "\n".join(lines[position : position + used]), cells, layout)
        position += used


def _header_layout(line: str, delimiter: str) -> TableLayout | None:
    names = [normalize_name(cell) for cell in _split_cells(line, delimiter)]
    image, captions = find_column(names, FILE_COLUMNS), caption_columns(names)
    is_id = image is None
    image = find_column(names, ID_COLUMNS) if is_id else image
    if image is None or not captions or image in captions:
        return None
    split = find_column(names, SPLIT_COLUMNS)
    return TableLayout(delimiter, tuple(names), image, tuple(captions), split, True, is_id)


def _plain_layout(line: str, delimiter: str) -> TableLayout | None:
    """The layout of a table without header: an image file name, perhaps a number, and a caption."""
    cells = _split_cells(line, delimiter)
    if not is_image_name(_image_name(cells[0])) or len(cells) < 2 or not cells[1].strip():
        return None
    if len(cells) > 2 and _NUMBER.fullmatch(cells[1]):
        return TableLayout(delimiter, ("image", "comment_number", "caption"), 0, (2,), None, False)
    if len(cells) > 2 and delimiter == "\t":
        return None
    return TableLayout(delimiter, ("image", "caption"), 0, (1,), None, False)


def _split_cells(line: str, delimiter: str) -> list[str]:
    return _parse_csv(line, delimiter) or line.split(delimiter)


def _parse_csv(text: str, delimiter: str, width: int | None = None) -> list[str] | None:
    """The cells of one record; None if it is not valid CSV. Quotes after a space count if ``width`` cells result."""
    if delimiter == "|":  # Kaggle's results.csv has quotes that are part of the captions
        return text.split(delimiter)
    cells = _read_csv(text, delimiter)
    if width is not None and cells is not None and len(cells) > width and f'{delimiter} "' in text:
        spaced = _read_csv(text, delimiter, skip_spaces=True)
        return spaced if spaced is not None and len(spaced) == width else cells
    return cells


def _read_csv(text: str, delimiter: str, skip_spaces: bool = False) -> list[str] | None:
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True, skipinitialspace=skip_spaces))
        return rows[0] if len(rows) == 1 else None
    except csv.Error:
        return None


def _split_record(lines: Sequence[str], position: int, layout: TableLayout) -> tuple[list[str], int]:
    """The cells of the record that begins at a line, and its number of lines."""
    line = lines[position]
    width = len(layout.columns)
    cells = _parse_csv(line, layout.delimiter, width)
    if cells is not None:
        return cells, 1
    if _is_open_quote(line, layout.delimiter):
        for used in range(2, min(_MAX_LINES, len(lines) - position) + 1):
            following = lines[position + used - 1]
            if is_image_name(_image_name(_plain_cells(following, layout.delimiter)[layout.image :][:1])):
                break  # the next record
            text = "\n".join(lines[position : position + used])
            cells = _parse_csv(text, layout.delimiter, width)
            if cells is not None:
                return cells, used
            if not _is_open_quote(text, layout.delimiter):
                break
    return _plain_cells(line, layout.delimiter), 1


def _is_open_quote(text: str, delimiter: str) -> bool:
    """Whether a quote of the last field is not closed."""
    try:
        list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _plain_cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line in which quotes are plain characters, except around a whole cell."""
    cells = [cell.strip() for cell in line.split(delimiter)]
    return [cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell for cell in cells]


def _parse_row(line: int, text: str, cells: list[str], layout: TableLayout) -> TableRow:
    if not is_text(text):
        return TableRow(line, problem="is not UTF-8 text")
    cells = _align(cells, layout)
    if len(cells) <= max(layout.image, *layout.captions):
        return TableRow(line, problem=f"has {len(cells)} of {len(layout.columns)} columns")
    image = _image_name(cells[layout.image : layout.image + 1])
    if not image:
        return TableRow(line, problem="has no image file name")
    captions = tuple(caption for column in layout.captions for caption in cell_captions(cells[column]))
    if any(len(caption) > _MAX_CAPTION for caption in captions):
        return TableRow(line, problem=f"is longer than {_MAX_CAPTION:,} characters")
    split = cells[layout.split].strip() if layout.split is not None and layout.split < len(cells) else ""
    return TableRow(line, image, tuple(caption.strip() for caption in captions), split)


def _align(cells: list[str], layout: TableLayout) -> list[str]:
    """The cells in the columns of the layout.

    Delimiters inside a caption that is not quoted make a row longer; an index column without a name too. One row of
    Kaggle's Flickr30k has no delimiter between number and caption.
    """
    width, caption = len(layout.columns), layout.captions[-1]
    if len(cells) == width + 1 and _NUMBER.fullmatch(cells[0]) and not is_image_name(_image_name(cells[:1])):
        position = layout.image + 1
        if is_image_name(_image_name(cells[position : position + 1])):
            return cells[1:]
    if len(cells) > width and len(layout.captions) == 1:
        extra = len(cells) - width
        return [
            *cells[:caption],
            layout.delimiter.join(cells[caption : caption + extra + 1]),
            *cells[caption + extra + 1 :],
        ]
    if len(cells) == width - 1 and caption == width - 1 and width > 2:
        number = _NUMBER.match(cells[-1])
        if number is not None and number.group() != cells[-1]:
            return [*cells[:-1], number.group(), cells[-1][number.end() :]]
    return cells


def _image_name(cells: Sequence[str] | str) -> str:
    """The image in a cell, without the number of the caption."""
    text = (cells if isinstance(cells, str) else next(iter(cells), "")).strip()
    numbered = _NUMBERED_NAME.fullmatch(text)
    return numbered["name"] if numbered and is_image_name(numbered["name"]) else text
