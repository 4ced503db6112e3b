"""Error messages for paths that the operating system refuses: too long, or in a folder without permission."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.error_checks import Run, check_error

import xmodal_cli
from xmodal_cli.errors import path_message

COMMANDS = (
    "eval",
    "eval starter --data",
    "train --model",
    "train --model demo --data",
    "train --model demo --data shapes --init-from",
    "index",
    "index --index",
    "index --model",
    "search dog --index",
    "search dog --copy-to",
    "caption",
    "caption photo.jpg --model",
    "data info",
    "data add photos",
    "data make shapes",
    "features",
    "models info",
    "models convert",
    "models default",
    "vectors import",
)
TRY_ALL = """
import sys
from xmodal_cli.__main__ import main
path, *commands = sys.argv[1:]
for command in commands:
    print(f"== {command} {main([*command.split(), path])}", file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_that_is_too_long_for_a_file(xmodal: Run, command: str) -> None:
    outcome = xmodal(*command.split(), "x" * 300)
    assert outcome.code in (1, 2)
    assert outcome.err
    assert "this is a bug" not in outcome.err
    assert "Traceback" not in outcome.err


def without_privileges() -> list[str]:
    """The start of a command that runs without the privileges of root; skips where root cannot give them up."""
    if os.name != "posix":
        pytest.skip("needs the permissions of Unix")
    if os.geteuid() != 0:
        return []
    command = [shutil.which("setpriv") or "", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    if not command[0] or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root can read all files, and setpriv cannot change it")
    return command


@pytest.mark.parametrize("name", ["", "a.jpg", "new/a.jpg"])
def test_a_folder_without_permission(tmp_path: Path, name: str) -> None:
    command = [*without_privileges(), sys.executable, "-c", TRY_ALL, str(tmp_path / "closed" / name), *COMMANDS]
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a.jpg").write_bytes(b"")
    (tmp_path / "closed").chmod(0)
    root = str(Path(xmodal_cli.__file__).parents[1])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}
        )
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert "Traceback" not in done.stderr
    assert "this is a bug" not in done.stderr
    codes = [line.split()[-1] for line in done.stderr.splitlines() if line.startswith("== ")]
    assert len(codes) == len(COMMANDS) and {*codes} <= {"1", "2"}
    assert done.stderr.count("Permission denied") + done.stderr.count("not readable") >= len(COMMANDS) // 2


def test_the_reason_is_that_of_the_operating_system(xmodal: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise PermissionError(13, "Permission denied", "/vault/model.safetensors")

    monkeypatch.setattr("xmodal_cli.recipes.models.list_models", fail)
    hint = check_error(xmodal("models", "list"), "/vault/model.safetensors: Permission denied")
    assert "permissions" in hint


def test_other_errors_are_not_those_of_a_path() -> None:
    assert path_message(FileNotFoundError(2, "No such file", "a")) is None
    assert path_message(PermissionError(13, "Permission denied")) is None
    assert path_message(ValueError("a")) is None
