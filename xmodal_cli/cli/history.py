"""What was typed at a prompt: kept at home, brought back by the arrow keys. Works without ``readline``, less well."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import ModuleType

from xmodal_cli import paths
from xmodal_cli.errors import StorageError

NUM_LINES = 1000


class History:
    """The last 1,000 lines of all prompts. A line is kept when it is entered: nothing is lost with the terminal.

    Where the file cannot be written or read, lines are remembered until the prompt ends.
    """

    def __init__(self, file: Path, readline: ModuleType | None) -> None:
        self._file, self._readline = file, readline
        self._last = ""
        if readline is not None:
            readline.set_auto_history(False)
            for line in self._lines()[-NUM_LINES:]:
                readline.add_history(line)
                self._last = line

    def add(self, line: str) -> None:
        """Remember ``line``, unless it is the one before."""
        if not line or line == self._last:
            return
        self._last = line
        if self._readline is not None:
            self._readline.add_history(line)
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # other people need not read what was searched for
            place = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(place, "a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line + "\n")

    def close(self) -> None:
        """Shorten the file to its last 1,000 lines."""
        lines = self._lines()
        if len(lines) > NUM_LINES:
            text = "".join(f"{line}\n" for line in lines[-NUM_LINES:])
            with contextlib.suppress(OSError, StorageError):
                paths.write_bytes(self._file, text.encode("utf-8", "surrogateescape"))
                self._file.chmod(0o600)

    def _lines(self) -> list[str]:
        try:
            text = self._file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return []
        return [line for line in text.split("\n") if line]


def open_history() -> History:
    """The history at home, with line editing where Python has it."""
    try:
        import readline
    except ImportError:
        return History(paths.home() / "history", None)
    return History(paths.home() / "history", readline)
