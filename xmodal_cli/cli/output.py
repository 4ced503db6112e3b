"""What people see: results on stdout, progress and talk on stderr. The only room that draws.

Rich is imported when something is drawn, so that ``--help`` stays quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

    from xmodal_cli.types import ProgressTask


def print_json(result: Any) -> None:
    """The result, and only it, on stdout. File names that are no UTF-8 come out as ``\\udcXX`` escapes."""
    _write_json(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))


def print_json_line(result: Any) -> None:
    """One of many results, on a line of its own, at once."""
    _write_json(json.dumps(result, ensure_ascii=False, allow_nan=False))
    sys.stdout.flush()


def _write_json(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def print_line(text: str = "") -> None:
    """One plain line of a result on stdout."""
    sys.stdout.write(text + "\n")


def printable(text: str) -> str:
    """``text`` with control characters and stray bytes escaped: a file's name must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout: columns of numbers to the right, the others to the left."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", show_edge=False, pad_edge=False, box=_box())
    for position, column in enumerate(columns):
        numbers = position > 0 and all(_is_number(row[position]) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        cells = ("-" if cell is None else cell for cell in row)
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells))
    stdout_console().print(table)


def _is_number(cell: object) -> bool:
    try:
        return cell is None or float(str(cell).replace(",", "").removeprefix("±")) is not None
    except ValueError:
        return False


def stdout_console() -> Console:
    """Rich's console on stdout: colour on a terminal, plain and unwrapped elsewhere."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 160)


def stderr_console() -> Console:
    """Rich's console on stderr."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False)


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


class TerminalReporter:
    """A Reporter that writes to stderr: a bar with rate and time left per task, lines in between."""

    @cached_property
    def _console(self) -> Console:
        return stderr_console()

    def task(self, label: str, total: int | None, unit: str = "items") -> ProgressTask:
        return _Bar(self._console, label, total, unit)

    def info(self, message: str) -> None:
        self._console.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", markup=False, soft_wrap=True, style="yellow")


class _Bar:
    """One progress bar; off a terminal it stays silent but for a closing line."""

    def __init__(self, console: Console, label: str, total: int | None, unit: str) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            from rich.progress import Progress

            # results that are printed meanwhile go above the bar, unless stdout is elsewhere
            above = sys.stdout.isatty()
            columns = _columns(self._unit)
            self._progress = Progress(*columns, console=self._console, transient=True, redirect_stdout=above)
            self._progress.start()
            self._task = self._progress.add_task(self._label, total=self._total, facts="")
        return self

    def advance(self, amount: int = 1, **facts: object) -> None:
        if self._progress is None or self._task is None:
            return
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        if shown:
            self._progress.update(self._task, advance=amount, facts=shown)
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
