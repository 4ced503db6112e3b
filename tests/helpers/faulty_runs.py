"""Command lines in a forked process with a fault at one of its moments: a signal, or a disk that is full from then on.

The moments of a command are its changes of files: opening one for writing, flushing, renaming, deleting, creating and
deleting folders, and each statement of a connection to SQLite that changes a database. The process has imported what
commands need, and forks for each request.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.request_server import RequestServer

FULL = "full"  # a fault; the others are names of signals
_IMPORTED = ("numpy", "faiss", "onnxruntime", "PIL.Image", "typer", "rich.console", "xmodal_cli.__main__")
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree")
_WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Done:
    """The end of a command line: ``code`` is negative for a signal, ``moments`` are the moments it has reached."""

    code: int
    out: str
    err: str
    moments: int
    seconds: float
    names: tuple[str, ...]


class FaultServer(RequestServer):
    """``run`` runs one command line. ``imported`` are further modules that the commands import."""

    def __init__(self, *imported: str) -> None:
        super().__init__("helpers.faulty_runs", *imported, TERM="dumb")

    def run(
        self, args: Sequence[object], home: Path, moment: int = 0, fault: str = "SIGKILL", seconds: float = 0.0
    ) -> Done:
        """Run ``xmodal ARGS`` with ``fault`` at its ``moment``, counted from 1, or after ``seconds``; 0: no fault."""
        request = {"args": [str(arg) for arg in args], "home": str(home), "moment": moment, "fault": fault}
        done = self.request(request | {"seconds": seconds})
        return Done(**{**done, "names": tuple(done["names"])})


def _serve(imported: Sequence[str]) -> None:
    for name in (*_IMPORTED, *imported):  # once, and not in every run
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("out", "err", "moments")]
            for file in files:
                file.write_bytes(b"")
            start = time.monotonic()
            if (child := os.fork()) == 0:
                _run(request, *files)
            code = _wait(child, request)
            seconds = time.monotonic() - start
            out, err, moments = (file.read_text(encoding="utf-8", errors="replace") for file in files)
        names = moments.splitlines()
        done = {"code": code, "out": out, "err": err, "moments": len(names), "seconds": seconds, "names": names}
        print(json.dumps(done), flush=True)


def _wait(child: int, request: dict[str, Any]) -> int:
    """Wait for the child, and send it the signal when it is time; returns its exit code."""
    if request["seconds"]:
        deadline = time.monotonic() + request["seconds"]
        while time.monotonic() < deadline:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(child, getattr(signal, request["fault"]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run(request: dict[str, Any], out: Path, err: Path, moments: Path) -> None:
    """The child process."""
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY), number)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
    os.environ["XMODAL_HOME"] = request["home"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # background jobs of a shell ignore some of them
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.argv = ["xmodal", *request["args"]]
    _Moments(request["moment"], request["fault"], os.open(moments, os.O_WRONLY)).count()
    from xmodal_cli.__main__ import main

    code = 70
    with contextlib.suppress(SystemExit):
        code = main()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


class _Moments:
    """Counts the moments of this process, and writes one line for each to the descriptor ``log``."""

    def __init__(self, moment: int, fault: str, log: int) -> None:
        self._moment, self._fault, self._log = moment, fault, log
        self._number = 0

    def count(self) -> None:
        """Begin. Signals of the interpreter are checked after the hook, in the main thread."""
        fsync, connect = os.fsync, sqlite3.connect

        def counted_fsync(file: int) -> None:
            self._reach("fsync")
            fsync(file)

        def traced_connect(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_trace_callback(self._trace)
            return connection

        os.fsync, sqlite3.connect = counted_fsync, traced_connect  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _trace(self, statement: str) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "COMMIT", "CREATE", "PRAGMA JOURNAL")):
            self._reach(f"sql {statement.split(maxsplit=1)[0]}", is_sql=True)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and len(args) == 3 and isinstance(args[2], int) and args[2] & _WRITING:
            if not str(args[0]).startswith("/dev/") and isinstance(args[0], str | bytes | os.PathLike):
                self._reach(f"open {os.fsdecode(args[0]).rpartition('/')[2]}")
        elif event in _CHANGES:
            self._reach(f"{event} {os.fsdecode(args[0]).rpartition('/')[2] if not isinstance(args[0], int) else ''}")

    def _reach(self, name: str, is_sql: bool = False) -> None:
        self._number += 1
        os.write(self._log, f"{name}\n".encode(errors="replace"))
        if not self._moment or self._number < self._moment:
            return
        if self._fault == FULL:
            if not is_sql and not name.startswith(("os.remove", "os.rmdir", "shutil")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        elif self._number == self._moment:
            os.kill(os.getpid(), getattr(signal, self._fault))


if __name__ == "__main__":
    _serve(sys.argv[1:])
