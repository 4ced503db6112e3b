"""Progress of long operations: a bar on a terminal, elsewhere a plain line about every ten seconds.

Plain lines have the rate and the time left. They count from the first finished item, since the time before it may be
that of loading a model. An operation that has printed one also prints a last line when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from xmodal_cli.printable import escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

INTERVAL = 10.0  # seconds between plain lines

Clock = Callable[[], float]


class PlainProgress:
    """The progress of one operation as lines; ``write`` prints one of them."""

    def __init__(self, write: Callable[[str], None], label: str, total: int | None, unit: str, clock: Clock) -> None:
        self._write, self._label, self._total, self._unit, self._clock = write, label, total, unit, clock
        self._done = 0
        self._start = self._last = clock()
        self._rate_from: tuple[float, int] | None = (
            None  # time and items done: those of the last line, or the first item
        )
        self._has_printed = False

    def __enter__(self) -> Self:
        return self

    def advance(self, amount: int = 1, **facts: object) -> None:
        self._done += amount
        now = self._clock()
        if now - self._last >= INTERVAL:
            parts = [self._count(), *self._rate_and_time_left(now), _format_facts(facts)]
            self._print(", ".join(part for part in parts if part))
            self._last, self._rate_from = now, None
        if self._rate_from is None and self._done:
            self._rate_from = (now, self._done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_printed:
            outcome = "done: " if kind is None else "stopped after "
            self._print(f"{outcome}{self._count()}, {_format_seconds(self._clock() - self._start)}")

    def _print(self, text: str) -> None:
        self._has_printed = True
        self._write(f"{self._label}: {text}")

    def _count(self) -> str:
        scale, unit, style = _scale(self._unit)
        done = format(self._done / scale, style)
        return f"{done} {unit}" if self._total is None else f"{done} of {format(self._total / scale, style)} {unit}"

    def _rate_and_time_left(self, now: float) -> list[str]:
        """Both of the time since the last line, or since the first item; empty at the first item."""
        if self._rate_from is None:
            return []
        since, done = self._rate_from
        scale, unit, _ = _scale(self._unit)
        rate = (self._done - done) / max(now - since, 1e-9)
        facts = [f"{rate / scale:,.{1 if rate / scale < 10 else 0}f} {unit}/s"]
        if self._total is not None and rate > 0:
            facts.append(f"{_format_seconds(max(0, self._total - self._done) / rate)} left")
        return facts


class Bar:
    """A progress bar on a terminal. ``redirect`` prints results above the bar if they go to the same terminal."""

    def __init__(self, console: Console, redirect: bool, label: str, total: int | None, unit: str) -> None:
        from rich.progress import Progress

        self._progress: Progress = Progress(
            *_columns(unit), console=console, transient=True, redirect_stdout=redirect, redirect_stderr=False
        )
        self._task: TaskID = self._progress.add_task(escape_unprintable(label), total=total, facts="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def advance(self, amount: int = 1, **facts: object) -> None:
        if facts:
            self._progress.update(self._task, advance=amount, facts=_format_facts(facts))
        else:
            self._progress.update(self._task, advance=amount)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def _scale(unit: str) -> tuple[float, str, str]:
    """The size of the unit to print, its name and the format of its numbers: megabytes for bytes."""
    return (1e6, "MB", ",.1f") if unit == "bytes" else (1, unit, ",.0f")


def _format_facts(facts: dict[str, object]) -> str:
    return escape_unprintable(
        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
    )


def _format_seconds(seconds: float) -> str:
    """``0:07``, ``12:05`` or ``3:20:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _columns(unit: str) -> tuple[ProgressColumn | str, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f} {unit}/s" if task.speed else f"- {unit}/s")

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
    )
