"""Tables as plain text for pipes and files: every cell in full, no colors, no width limit."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], rule: str) -> str:
    """Format the header, a line of ``rule`` and the rows. A multi-line cell makes a multi-line row.

    ``right`` has one flag per column: whether its cells are right-aligned.
    """
    split = [[cell.split("\n") for cell in row] for row in (columns, *rows)]
    widths = [max(_width(line) for row in split for line in row[i]) for i in range(len(columns))]
    header, *body = ([_format_line(line, widths, right) for line in _lines(row)] for row in split)
    total = sum(widths) + len(GAP) * (len(widths) - 1)
    return "\n".join([*header, rule * total, *(line for row in body for line in row)])


def _lines(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """The lines of one row; cells with fewer lines are padded with empty strings."""
    height = max(map(len, cells))
    return [[cell[i] if i < len(cell) else "" for cell in cells] for i in range(height)]


def _format_line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, is_right in zip(cells, widths, right, strict=True):
        padding = " " * (width - _width(cell))
        padded.append(padding + cell if is_right else cell + padding)
    return GAP.join(padded).rstrip()


def _width(text: str) -> int:
    """Width in terminal cells: wide East Asian characters take two."""
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)
