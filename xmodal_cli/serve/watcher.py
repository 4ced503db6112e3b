"""``xmodal serve --watch``: a thread that updates an index when photos in its folders change.

Changes that are reported during an update are collected, and are part of the next one. An error of an update is kept
for the page, and the next change tries again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from xmodal_cli.data.exclusions import IGNORE_FILE
from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.device import Compute
from xmodal_cli.errors import XmodalError, bug_message
from xmodal_cli.paths import home
from xmodal_cli.reporter import Reporter, SilentReporter
from xmodal_cli.retrieval.stored_metadata import read_metadata

if TYPE_CHECKING:
    from watchfiles import Change

POLL = 500  # milliseconds between checks of the folders and of the end
RETRY = 30.0  # seconds after which folders that cannot be watched are tried again


@dataclass(frozen=True)
class WatchState:
    """What the thread does: ``task`` with ``done`` of ``total`` units, empty between updates.

    ``updates`` is the number of updates that have changed the index. ``error`` and ``hint`` are those of the last one.
    """

    index: str
    task: str = ""
    done: int = 0
    total: int | None = None
    updates: int = 0
    error: str = ""
    hint: str = ""


class Stopped(XmodalError):
    """The server ends during an update; what was committed stays."""


class Watcher:
    """``update`` makes an index match its folders, and returns whether it has changed the index."""

    def __init__(self, folder: Path, update: Callable[[Reporter], bool]) -> None:
        self._folder, self._update = folder, update
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.state = WatchState(folder.name)

    def start(self) -> None:
        """Update the index, and watch its folders."""
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        """End the thread; an update ends at its next report of progress."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def report(self, **facts: object) -> None:
        """Change the state. Raises Stopped if the server ends."""
        if self._stop.is_set():
            raise Stopped("the server ends")
        self.state = replace(self.state, **facts)  # type: ignore[arg-type]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except Exception as error:  # folders that cannot be watched, such as too many of them
                self._keep_error(error)
                self._stop.wait(RETRY)

    def _watch(self) -> None:
        """Update the index now and after each change, until its folders are others."""
        from watchfiles import watch

        roots = self._roots()
        if not roots:
            self._update_index()
            self._stop.wait(RETRY)
            return
        is_first = True
        changes = watch(
            *roots,
            watch_filter=is_relevant,
            stop_event=self._stop,
            rust_timeout=POLL,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        for changed in changes:
            if changed or is_first:
                self._update_index()
                is_first = False
            if self._roots() != roots:
                return

    def _roots(self) -> list[str]:
        return [root for root in read_metadata(self._folder).roots if Path(root).exists()]

    def _update_index(self) -> None:
        try:
            has_changed = self._update(_StateReporter(self))
            self.report(task="", error="", hint="", updates=self.state.updates + has_changed)
        except Stopped:
            pass
        except Exception as error:  # the server continues
            self._keep_error(error)

    def _keep_error(self, error: Exception) -> None:
        message, hint = (error.message, error.hint) if isinstance(error, XmodalError) else bug_message(error)
        self.state = replace(self.state, task="", error=message, hint=hint)


def index_updater(folder: Path, runtime: str) -> Callable[[Reporter], bool]:
    """The ``update`` of a watcher: that of ``xmodal index --index NAME``, which does not change the default index."""

    def update(reporter: Reporter) -> bool:
        from xmodal_cli.recipes import index

        report = index.update(folder, Compute(runtime=runtime), reporter)
        return bool(report.added or report.updated or report.moved or report.removed)

    return update


class _StateReporter(SilentReporter):
    """Progress of an update as the state of the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def task(self, label: str, total: int | None, unit: str = "items") -> _StateProgress:
        self._watcher.report(task=label, done=0, total=total)
        return _StateProgress(self._watcher)

    def info(self, message: str) -> None:
        self._watcher.report(task=message, done=0, total=None)


class _StateProgress:
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def advance(self, amount: int = 1, **facts: object) -> None:
        self._watcher.report(done=self._watcher.state.done + amount)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def is_relevant(change: Change, path: str) -> bool:
    """Whether a change can change an index: of a photo, a folder or an ignore file, outside ``XMODAL_HOME``."""
    name = Path(path).name
    if name.startswith(".") and name != IGNORE_FILE:
        return False
    if Path(path).is_relative_to(home()):
        return False
    return is_listed_name(name) or name == IGNORE_FILE or not Path(path).is_file()
