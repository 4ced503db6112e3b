"""The Java programs that come with pycocoevalcap: found, started, spoken to and always ended. Fetches nothing."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from xmodal_cli.errors import Unavailable

NO_JAVA = "install a Java runtime (version 8 or later) and put `java` on the PATH"


def java() -> str:
    """The ``java`` program. Raises Unavailable."""
    found = shutil.which("java")
    if found is None:
        raise Unavailable("there is no Java", NO_JAVA)
    return found


def jar(*parts: str) -> Path:
    """A file of pycocoevalcap's, by its parts below the package. Raises Unavailable."""
    spec = find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder, *parts)
        if file.is_file():
            return file
    raise Unavailable(f"pycocoevalcap's {'/'.join(parts)} is not there", "install pycocoevalcap again")


class Talk:
    """A program that answers a line with a line."""

    def __init__(self, name: str, process: subprocess.Popen[str], complaints: IO[str]) -> None:
        self._name, self._process, self._complaints = name, process, complaints

    def ask(self, line: str) -> str:
        """Its answer. Raises Unavailable where it has ended."""
        self.tell(line)
        return self.hear()

    def tell(self, line: str) -> None:
        """Send a line. Raises Unavailable where nobody reads it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:  # the pipe is broken
            raise self.failure() from error

    def hear(self) -> str:
        """The next line. Raises Unavailable where there is none."""
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            raise self.failure()
        return answer.strip()

    def failure(self) -> Unavailable:
        """The error for a program that ended, with what it said last."""
        self._process.kill()
        self._process.wait()
        self._complaints.seek(0)
        said = [line.strip() for line in self._complaints.read().splitlines() if line.strip()]
        reason = f": {said[-1][:200]}" if said else f" with code {self._process.returncode}"
        return Unavailable(f"{self._name} ended before it answered{reason}", "see that `java -version` works")


@contextmanager
def talk(name: str, command: Sequence[str], seconds: float) -> Iterator[Talk]:
    """A running program, ended when the block is left, or after ``seconds``. Raises Unavailable."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise Unavailable(f"{name} does not start: {error}", NO_JAVA) from error
        watch = threading.Timer(seconds, process.kill)
        watch.daemon = True
        watch.start()
        try:
            yield Talk(name, process, complaints)
        finally:
            watch.cancel()
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Kill it and close its pipes; what was still to be written is lost."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # closing flushes, and the reader is dead
            pass
