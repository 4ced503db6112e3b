"""Progress and messages of long operations: the ``Reporter`` protocol, and a reporter that prints nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class ProgressTask(Protocol):
    """One progress bar; a context manager that closes it."""

    def advance(self, amount: int = 1, **facts: object) -> None:
        """Advance by ``amount`` units; ``facts``, such as ``loss=0.31``, are shown beside the bar."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Reporter(Protocol):
    """Receives progress and messages. The reporter of the command line prints them to stderr."""

    def task(self, label: str, total: int | None, unit: str = "items") -> ProgressTask:
        """Start a progress bar over ``total`` units; ``total`` is None if their number is unknown."""
        ...

    def info(self, message: str) -> None:
        """Report a status message."""
        ...

    def warn(self, message: str) -> None:
        """Report a warning."""
        ...


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
