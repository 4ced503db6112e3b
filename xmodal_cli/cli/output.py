"""The only module that prints. Results go to stdout; progress, messages and errors go to stderr.

On a terminal, rich formats tables and progress bars to the width of the terminal. Otherwise, and on a terminal without
escape sequences (``TERM=dumb``), every line is written in full: nothing is wrapped, truncated or colored, whatever
COLUMNS, TERM, NO_COLOR and FORCE_COLOR are. Characters that a stream cannot encode are replaced (``-`` for a rule,
escapes for the others), and so are control characters, see ``printable``. Rich is imported at its first use.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from xmodal_cli import printable
from xmodal_cli.cli import streams
from xmodal_cli.cli.progress import Bar, PlainProgress
from xmodal_cli.result_json import to_json

if TYPE_CHECKING:
    from rich.console import Console

    from xmodal_cli.reporter import ProgressTask

ASCII = str.maketrans({"─": "-", "±": "+-"})
RULE = "─"
_WITHOUT_ESCAPES = ("", "dumb", "unknown")  # values of TERM


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal. A closed stream is None."""
    return stream is not None and stream.isatty()


def supports_escapes(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal that supports escape sequences."""
    return is_terminal(stream) and (sys.platform == "win32" or os.environ.get("TERM", "") not in _WITHOUT_ESCAPES)


def replace_unencodable(text: str, stream: TextIO | None) -> str:
    """``text`` without characters that the stream cannot encode: ASCII for those of tables, escapes for others."""
    encoding = _encoding(stream)
    if _can_encode(encoding, text):
        return text
    return text.translate(ASCII).encode(encoding, "backslashreplace").decode(encoding)


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _write(text: str, stream: TextIO | None) -> None:
    """Write a line; tabs are kept, other control characters are escaped."""
    _write_raw(printable.escape_unprintable(text, keep="\t"), stream)


def _write_raw(text: str, stream: TextIO | None) -> None:
    if stream is not None:
        stream.write(replace_unencodable(text, stream) + "\n")


def print_json(result: Any) -> None:
    """Print the result as JSON (see ``result_json``) on stdout; names that are not UTF-8 with ``\\udcXX`` escapes."""
    _write_json(result, indent=2)


def print_json_line(result: Any) -> None:
    """Print one of several results on a single line and flush."""
    _write_json(result)
    sys.stdout.flush()


def _write_json(result: Any, indent: int | None = None) -> None:
    result = to_json(result)
    text = printable.escape_json(json.dumps(result, indent=indent, ensure_ascii=False, allow_nan=False))
    if not _can_encode(_encoding(sys.stdout), text):
        text = json.dumps(result, indent=indent, allow_nan=False)
    _write_raw(text, sys.stdout)


def print_line(text: str = "") -> None:
    """Print one line of a result on stdout. Control characters except tabs are escaped, newlines too."""
    _write(text, sys.stdout)


def print_text(text: str) -> None:
    """Print the lines of a result on stdout."""
    for line in text.split("\n"):
        _write(line, sys.stdout)


def print_formatted(text: str) -> None:
    """Print a line that may contain escape sequences of this program; names in it must be escaped."""
    _write_raw(text, sys.stdout)


def print_bytes(data: bytes) -> None:
    """Write bytes of a result to stdout, such as names that need not be text."""
    sys.stdout.flush()
    streams.write_bytes(sys.stdout, data)


def send_control(text: str) -> None:
    """Send control characters to the terminal at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def can_print(text: str) -> bool:
    """Whether stdout can encode ``text``."""
    return _can_encode(_encoding(sys.stdout), text)


def print_rule(width: int) -> None:
    """Print a horizontal line on stdout; without a terminal it is ASCII, whatever the encoding."""
    _write((RULE if is_terminal(sys.stdout) else "-") * width, sys.stdout)


def print_error(lines: Sequence[str]) -> None:
    """Print the lines of an error (see ``errors.error_lines``) on stderr."""
    for line in lines:
        _write(line, sys.stderr)


def escape_unprintable(text: str) -> str:
    """``text`` without control characters; see ``printable``. The functions of this module call it themselves."""
    return printable.escape_unprintable(text)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout. Numeric columns are right-aligned. Cells of several lines are ``rich.text.Text``."""
    numeric = [column > 0 and all(_is_number(row[column]) for row in rows) for column in range(len(columns))]
    if supports_escapes(sys.stdout):
        _print_rich_table(title, columns, rows, numeric)
        return
    from xmodal_cli.cli.plain_table import format_table

    rows = [[_ascii_number(cell, is_number) for cell, is_number in zip(row, numeric, strict=True)] for row in rows]
    cells = [[replace_unencodable(_plain_cell(cell), sys.stdout) for cell in row] for row in rows]
    if title:
        print_line(title)
    print_text(format_table(columns, cells, numeric, "-"))


def _ascii_number(cell: object, is_number: bool) -> object:
    """``+-1.5`` for ``±1.5``, so that tables are the same in every encoding."""
    return cell.translate(ASCII) if is_number and isinstance(cell, str) else cell


def _plain_cell(cell: object) -> str:
    if cell is None:
        return "-"
    return printable.escape_unprintable(str(cell), keep="" if isinstance(cell, str) else "\n")


def _print_rich_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[bool]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heading = Text(printable.escape_unprintable(title)) if title else None
    table = Table(title=heading, title_justify="left", show_edge=False, pad_edge=False, box=box.SIMPLE_HEAD)
    for column, is_numeric in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(c if isinstance(c, Text) else Text(replace_unencodable(_plain_cell(c), sys.stdout)) for c in row)
        )
    Console(file=sys.stdout, highlight=False).print(table)


def _is_number(cell: object) -> bool:
    try:
        return cell is None or float(str(cell).replace(",", "").removeprefix("±")) is not None
    except ValueError:
        return False


class TerminalReporter:
    """A Reporter that prints messages and the progress of tasks on stderr; see ``progress``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @cached_property
    def _console(self) -> Console | None:
        """Rich's console on stderr; None where stderr is not a terminal with escape sequences."""
        if not supports_escapes(sys.stderr):
            return None
        from rich.console import Console

        return Console(file=sys.stderr, highlight=False)

    def task(self, label: str, total: int | None, unit: str = "items") -> ProgressTask:
        if self._console is not None and self._console.is_terminal:
            return Bar(self._console, is_terminal(sys.stdout), label, total, unit)
        return PlainProgress(self._print, label, total, unit, self._clock)

    def info(self, message: str) -> None:
        self._print(message)

    def warn(self, message: str) -> None:
        self._print(f"warning: {message}", "yellow")

    def _print(self, message: str, style: str | None = None) -> None:
        if self._console is None:
            _write(message, sys.stderr)
            if sys.stderr is not None:
                sys.stderr.flush()
        else:
            text = replace_unencodable(printable.escape_unprintable(message), sys.stderr)
            self._console.print(text, markup=False, soft_wrap=True, style=style)
