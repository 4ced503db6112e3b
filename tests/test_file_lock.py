"""Locks of writers: one at a time, released with the process, and without effect where there are no locks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xmodal_cli import file_lock
from xmodal_cli.errors import StorageError
from xmodal_cli.file_lock import folder_lock, write_lock
from xmodal_cli.reporter import SilentReporter

Run = Callable[..., Any]
HOLDER = """
import sys
from pathlib import Path
from xmodal_cli.file_lock import write_lock
with write_lock(Path(sys.argv[1]), "it"):
    print("locked", flush=True)
    sys.stdin.read()
"""


class Warnings(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, message: str) -> None:
        self.lines.append(message)


def hold(file: Path) -> subprocess.Popen[str]:
    """A process that has the lock until its stdin is closed."""
    command = [sys.executable, "-c", HOLDER, str(file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_process_is_refused_with_the_first_one_named(tmp_path: Path) -> None:
    with hold(tmp_path / "lock") as process:
        with pytest.raises(StorageError, match=f"the run a is being written .* \\(process {process.pid} on "):
            write_lock(tmp_path / "lock", "the run a").__enter__()
        process.communicate()
    with write_lock(tmp_path / "lock", "the run a"):
        assert f"process {os.getpid()} " in (tmp_path / "lock").read_text()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    with hold(tmp_path / "lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "lock").exists()
    with write_lock(tmp_path / "lock", "it"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_waiting_writers_run_one_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "number"
    file.write_text("0")

    def count() -> None:
        for _ in range(10):
            with write_lock(tmp_path / "lock", "the number", wait_seconds=60):
                file.write_text(str(int(file.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == "40"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_it_warns_and_continues(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(file_lock, "_lock_now", fail)
    warnings, entered = Warnings(), False
    with write_lock(tmp_path / "lock", "the run a", warnings):
        entered = True
    assert entered
    (line,) = warnings.lines
    assert str(tmp_path) in line
    assert "has no locks" in line


def test_a_folder_that_was_created_for_the_lock_is_deleted_if_it_is_empty(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "a" / "b", "the run b"):
        assert (tmp_path / "a" / "b" / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "used"):
        with folder_lock(folder, "it"):
            if folder.name == "used":
                (folder / "file").touch()
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {"empty", "used", "used/file"}


def test_two_trainings_of_one_run(xmodal: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with hold(run / ".lock") as process:
        for extra in ([], ["--resume"]):
            done = xmodal("train", "--model", "demo", "--data", "shapes", "--out", run, *extra)
            assert (done.code, done.out) == (1, "")
            error, hint = done.err.splitlines()
            assert error.startswith(f"error: the run {run} is being written by another xmodal process (process ")
            assert f"(process {process.pid} on" in error
            assert "--out" in hint
        process.communicate()
    assert not run.exists() or list(run.iterdir()) == []


def test_names_added_at_once_are_all_registered(xmodal: Run, tmp_path: Path) -> None:
    """Every thread is one `data add`; without the lock most names are lost."""
    from xmodal_cli.data import registry

    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "captions": ["x"], "split": "train"}\n')
    names = [f"set{number}" for number in range(12)]
    threads = [threading.Thread(target=registry.add, args=(name, tmp_path / "a.jsonl")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(registry.list_registered()) == set(names)


def test_a_name_waits_for_the_other_process(xmodal: Run, tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "captions": ["x"], "split": "train"}\n')
    with hold(home / "data" / ".registry.lock") as process:
        adding = threading.Thread(target=xmodal, args=("data", "add", "mine", tmp_path / "a.jsonl"))
        adding.start()
        adding.join(0.3)
        assert not (home / "data" / "registry.json").exists()
        process.communicate()
        adding.join()
    assert [entry["name"] for entry in xmodal("data", "list", "--json").json if entry["state"] == "present"] == ["mine"]
