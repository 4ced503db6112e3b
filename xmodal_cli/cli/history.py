"""Input history of the search prompt, stored in ``XMODAL_HOME``. Without ``readline`` it is stored but not recalled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import ModuleType

from xmodal_cli import paths
from xmodal_cli.errors import StorageError

NUM_LINES = 1000


class History:
    """The last 1,000 lines of all prompts. Each line is written to the file when it is entered.

    If the file cannot be read or written, the history lasts only until the prompt ends.
    """

    def __init__(self, file: Path, readline: ModuleType | None) -> None:
        self._file, self._readline = file, readline
        self._last = ""
        if readline is not None:
            readline.set_auto_history(False)
            for line in self._read_lines()[-NUM_LINES:]:
                readline.add_history(line)
                self._last = line

    def add(self, line: str) -> None:
        """Append ``line``, unless it is empty or equal to the previous one."""
        if not line or line == self._last:
            return
        self._last = line
        if self._readline is not None:
            self._readline.add_history(line)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # readable by the user only
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line + "\n")

    def close(self) -> None:
        """Truncate the file to its last 1,000 lines."""
        lines = self._read_lines()
        if len(lines) > NUM_LINES:
            text = "".join(f"{line}\n" for line in lines[-NUM_LINES:])
            with contextlib.suppress(OSError, StorageError):
                paths.write_bytes(self._file, text.encode("utf-8", "surrogateescape"))
                self._file.chmod(0o600)

    def _read_lines(self) -> list[str]:
        try:
            text = self._file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return []
        return [line for line in text.split("\n") if line]


def open_history() -> History:
    """The history in ``XMODAL_HOME``, with line editing if ``readline`` is available."""
    try:
        import readline
    except ImportError:
        return History(paths.home() / "history", None)
    return History(paths.home() / "history", readline)
