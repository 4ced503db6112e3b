"""stdout and stderr that are full, closed or in an encoding without the characters to print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xmodal_cli.cli import output, streams
from xmodal_cli.errors import StorageError

Run = Callable[..., Any]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
COMMANDS = ["data list", "data list --json", "--help", "search --help", "--version", "train --model vse --print-config"]


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command line; ``xmodal`` in it is this program."""
    line = f'xmodal() {{ "{sys.executable}" -m xmodal_cli "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
        stdin=subprocess.DEVNULL,
    )


def check_sentence(done: subprocess.CompletedProcess[bytes], part: str) -> None:
    """Exit code 1, and an error and a hint on stderr, nothing else."""
    lines = done.stderr.decode().splitlines()
    assert (done.returncode, len(lines)) == (1, 2), lines
    assert lines[0].startswith("error: stdout "), lines
    assert part in lines[0]
    assert lines[1].startswith("hint: ")


@posix
@needs_full
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_behind_stdout(command: str) -> None:
    check_sentence(shell(f"xmodal {command} > /dev/full"), "No space left on device")


@posix
@needs_full
@pytest.mark.parametrize("streams", ["> /dev/full 2> /dev/full", ">&- 2>&-", "> /dev/full 2>&-"])
def test_neither_stream_can_be_written(streams: str) -> None:
    done = shell(f"xmodal data list {streams}")
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@posix
@pytest.mark.parametrize("command", ["data list --json", "--help"])
def test_a_closed_stdout_is_an_error_before_anything_is_done(command: str) -> None:
    check_sentence(shell(f"xmodal {command} >&-"), "is closed")


@posix
@pytest.mark.parametrize("command", ["data list", "data list --json", "--help"])
def test_the_reader_of_the_pipe_is_gone(command: str) -> None:
    """Like ``| head``: no message, and the exit code 0 for every command."""
    done = shell(f"{{ sleep 0.1; xmodal {command}; echo $? >&2; }} | true")
    assert done.stderr == b"0\n"


@posix
@needs_full
@pytest.mark.parametrize("stream", ["2>&-", "2> /dev/full"])
def test_messages_that_cannot_be_written_do_not_end_the_command(stream: str, tmp_path: Path) -> None:
    made = shell(f"xmodal data make shapes {tmp_path}/set --json {stream}")
    assert made.returncode == 0
    assert json.loads(made.stdout)["images"] == 1500
    wrong = shell(f"xmodal data info {tmp_path}/none {stream}")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, b"", b"")
    assert shell(f"xmodal nothing {stream}").returncode == 2


@posix
def test_the_numbers_of_closed_streams_are_not_given_to_files() -> None:
    """Otherwise a library that prints on descriptor 2 would write into the next file that is opened."""
    code = (
        "import os, sys\nfrom xmodal_cli.cli.streams import checked_streams\n"
        "with checked_streams():\n    print(os.open(os.devnull, os.O_RDONLY) > 2)\n"
    )
    done = shell(f"'{sys.executable}' -c '{code}' 2>&- <&-")
    assert done.stdout == b"True\n"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-16", "ascii:surrogateescape", "cp437", "big5"])
def test_every_encoding(encoding: str, tmp_path: Path) -> None:
    """Tables, JSON and errors; ascii:surrogateescape is what Python uses in the C locale."""
    codec = encoding.partition(":")[0]
    path = tmp_path / "caf\xe9 \u72d7"
    for args in (["data", "list"], ["data", "list", "--json"], ["data", "info", str(path)], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "xmodal_cli", *args],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        out, err = done.stdout.decode(codec), done.stderr.decode(codec)
        assert done.returncode == (1 if "info" in args else 0), err
        assert "Traceback" not in err and "UnicodeEncodeError" not in err
        if args[1:] == ["list"]:
            assert set(out.splitlines()[1]) in ({"-"}, {"\u2500"})
        if "--json" in args:
            assert "shapes" in [entry["name"] for entry in json.loads(out)]
        if "info" in args:
            assert err.startswith("error: there is no dataset called") or "caf" in err


class Broken:
    """A stream whose writes fail."""

    encoding, errors = "utf-8", "strict"

    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def write(self, text: str) -> int:
        self.calls += 1
        raise self.error

    def flush(self) -> None:
        raise self.error

    def isatty(self) -> bool:
        return False


def test_only_the_first_failure_of_stdout_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(OSError(28, "No space left on device"))
    monkeypatch.setattr(sys, "stdout", broken)
    with streams.checked_streams():
        with pytest.raises(StorageError, match="No space left"):
            output.print_line("one")
        output.print_line("two")
        assert broken.calls == 1
        with pytest.raises(StorageError):  # a library may have ignored the first one
            sys.stdout.flush()
    assert sys.stdout is broken


def test_a_failing_stderr_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(OSError(5, "Input/output error"))
    monkeypatch.setattr(sys, "stderr", broken)
    with streams.checked_streams():
        output.TerminalReporter().warn("one")
        output.print_error(["error: two"])
        sys.stderr.flush()
    assert broken.calls == 1
