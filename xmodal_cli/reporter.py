"""Progress and messages of a long operation: the protocol of a reporter, and the one that prints nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class ProgressTask(Protocol):
    """One bar. ``facts`` are shown beside it, such as ``loss=0.31``."""

    def advance(self, amount: int = 1, **facts: object) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Reporter(Protocol):
    """Receives progress and messages. The command line draws progress bars on stderr."""

    def task(self, label: str, total: int | None, unit: str = "items") -> ProgressTask: ...
    def info(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...


class _SilentProgress:
    def advance(self, amount: int = 1, **facts: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class SilentReporter:
    """A Reporter that prints nothing."""

    def task(self, label: str, total: int | None, unit: str = "items") -> ProgressTask:
        return _SilentProgress()

    def info(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT: Reporter = SilentReporter()  # the default of every function that takes a reporter
