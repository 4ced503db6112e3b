"""The only module that prints. Results go to stdout; progress, messages and errors go to stderr.

On a terminal, rich formats tables and progress bars to the width of the terminal. Otherwise every line is written in
full: nothing is wrapped, truncated or colored, whatever COLUMNS, TERM, NO_COLOR and FORCE_COLOR are. Characters that a
stream cannot encode are replaced (``-`` for a rule, escapes for the others). Rich is imported at its first use.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

    from xmodal_cli.reporter import ProgressTask

ASCII = str.maketrans({"─": "-", "±": "+-"})
RULE = "─"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal. A closed stream is None."""
    return stream is not None and stream.isatty()


def escape_unencodable() -> None:
    """Make stdout and stderr write characters that they cannot encode as escapes instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


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
    if stream is not None:
        stream.write(replace_unencodable(text, stream) + "\n")


def print_json(result: Any) -> None:
    """Print the result as JSON on stdout. File names that are not UTF-8 are written as ``\\udcXX`` escapes."""
    _write_json(result, indent=2)


def print_json_line(result: Any) -> None:
    """Print one of several results on a single line and flush."""
    _write_json(result)
    sys.stdout.flush()


def _write_json(result: Any, indent: int | None = None) -> None:
    text = json.dumps(result, indent=indent, ensure_ascii=False, allow_nan=False)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if not _can_encode(_encoding(sys.stdout), text):
        text = json.dumps(result, indent=indent, allow_nan=False)
    _write(text, sys.stdout)


def print_line(text: str = "") -> None:
    """Print one line of a result on stdout."""
    _write(text, sys.stdout)


def print_rule(width: int) -> None:
    """Print a horizontal line on stdout."""
    _write(RULE * width, sys.stdout)


def print_error(lines: Sequence[str]) -> None:
    """Print the lines of an error (see ``errors.error_lines``) on stderr."""
    for line in lines:
        _write(line, sys.stderr)


def escape_unprintable(text: str) -> str:
    """``text`` with control characters and undecodable bytes escaped, so file names cannot control the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout. Numeric columns are right-aligned."""
    numeric = [column > 0 and all(_is_number(row[column]) for row in rows) for column in range(len(columns))]
    if is_terminal(sys.stdout):
        _print_rich_table(title, columns, rows, numeric)
        return
    from xmodal_cli.cli.plain_table import format_table

    cells = [[replace_unencodable("-" if cell is None else str(cell), sys.stdout) for cell in row] for row in rows]
    if title:
        print_line(title)
    print_line(format_table(columns, cells, numeric, replace_unencodable(RULE, sys.stdout)))


def _print_rich_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], numeric: Sequence[bool]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False, box=box.SIMPLE_HEAD)
    for column, is_numeric in zip(columns, numeric, strict=True):
        table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
    for row in rows:
        cells = ("-" if cell is None else cell for cell in row)
        table.add_row(*(c if isinstance(c, Text) else Text(replace_unencodable(str(c), sys.stdout)) for c in cells))
    Console(file=sys.stdout, highlight=False).print(table)


def _is_number(cell: object) -> bool:
    try:
        return cell is None or float(str(cell).replace(",", "").removeprefix("±")) is not None
    except ValueError:
        return False


class TerminalReporter:
    """A Reporter that prints messages on stderr and, on a terminal, a progress bar per task with rate and time left."""

    @cached_property
    def _console(self) -> Console | None:
        """Rich's console on stderr; None where stderr is not a terminal."""
        if not is_terminal(sys.stderr):
            return None
        from rich.console import Console

        return Console(file=sys.stderr, highlight=False)

    def task(self, label: str, total: int | None, unit: str = "items") -> ProgressTask:
        return _Bar(self._console, label, total, unit)

    def info(self, message: str) -> None:
        self._print(message)

    def warn(self, message: str) -> None:
        self._print(f"warning: {message}", "yellow")

    def _print(self, message: str, style: str | None = None) -> None:
        if self._console is None:
            _write(message, sys.stderr)
        else:
            self._console.print(replace_unencodable(message, sys.stderr), markup=False, soft_wrap=True, style=style)


class _Bar:
    """A progress bar. Prints nothing if stderr is not a terminal."""

    def __init__(self, console: Console | None, label: str, total: int | None, unit: str) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console is not None and self._console.is_terminal:
            from rich.progress import Progress

            # results that are printed in the meantime appear above the bar if stdout is a terminal as well
            redirect = is_terminal(sys.stdout)
            columns = _columns(self._unit)
            self._progress = Progress(*columns, console=self._console, transient=True, redirect_stdout=redirect)
            self._progress.start()
            self._task = self._progress.add_task(self._label, total=self._total, facts="")
        return self

    def advance(self, amount: int = 1, **facts: object) -> None:
        if self._progress is None or self._task is None:
            return
        text = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        if text:
            self._progress.update(self._task, advance=amount, facts=text)
        else:
            self._progress.update(self._task, advance=amount)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


def _columns(unit: str) -> tuple[ProgressColumn | str, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else f"- {unit}/s")

    return (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
