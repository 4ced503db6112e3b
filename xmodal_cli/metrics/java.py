"""Runs the Java programs of pycocoevalcap as child processes. Downloads nothing."""

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
    """The path of ``java``. Raises Unavailable."""
    program = shutil.which("java")
    if program is None:
        raise Unavailable("Java is not installed", NO_JAVA)
    return program


def jar(*parts: str) -> Path:
    """The path of a file in the package pycocoevalcap, by its path components. Raises Unavailable."""
    spec = find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder, *parts)
        if file.is_file():
            return file
    raise Unavailable(f"pycocoevalcap has no {'/'.join(parts)}", "reinstall pycocoevalcap")


class LineProcess:
    """A child process that reads and writes lines."""

    def __init__(self, name: str, process: subprocess.Popen[str], stderr: IO[str]) -> None:
        self._name, self._process, self._stderr = name, process, stderr

    def request(self, line: str) -> str:
        """Write a line and read one. Raises Unavailable if the process has ended."""
        self.write(line)
        return self.read()

    def write(self, line: str) -> None:
        """Write a line to the process. Raises Unavailable if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:  # the pipe is broken
            raise self.failure() from error

    def read(self) -> str:
        """Read the next line. Raises Unavailable if the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self.failure()
        return line.strip()

    def failure(self) -> Unavailable:
        """Kill the process; returns the error with its last line on stderr."""
        self._process.kill()
        self._process.wait()
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().splitlines() if line.strip()]
        reason = f": {lines[-1][:200]}" if lines else f" with code {self._process.returncode}"
        return Unavailable(f"{self._name} ended before its output was complete{reason}", "check `java -version`")


@contextmanager
def line_process(name: str, command: Sequence[str], seconds: float) -> Iterator[LineProcess]:
    """Run ``command``; it is killed at the end of the block or after ``seconds``. Raises Unavailable."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise Unavailable(f"{name} cannot be started: {error}", NO_JAVA) from error
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield LineProcess(name, process, stderr)
        finally:
            timer.cancel()
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the process and close its pipes; unwritten output is lost."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe is not None:
                pipe.close()
        except OSError:  # close() flushes to a process that has ended
            pass
