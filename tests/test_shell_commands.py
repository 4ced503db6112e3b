"""Commands in hints work when they are pasted into a shell."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from xmodal_cli import shell_commands
from xmodal_cli.shell_commands import install_command, xmodal_command


def test_words_are_quoted():
    assert xmodal_command("index", "/a/b") == "xmodal index /a/b"
    words = ["index", "/Urlaub & mehr/S\u00fcden", "--index", "my photos"]
    assert shlex.split(xmodal_command(*words)) == ["xmodal", *words]


@pytest.fixture(autouse=True)
def no_cache():
    install_command.cache_clear()
    yield
    install_command.cache_clear()


def test_the_install_command_is_for_this_environment(monkeypatch):
    monkeypatch.setattr(shell_commands, "find_spec", lambda _: None)
    monkeypatch.setattr("sys.executable", "/env/bin/python")
    assert install_command("a>=1") == 'uv pip install --python /env/bin/python "a>=1"'
    install_command.cache_clear()
    monkeypatch.setattr(shell_commands, "find_spec", lambda _: object())
    assert install_command("a") == "/env/bin/python -m pip install a"
    install_command.cache_clear()
    monkeypatch.setattr("sys.executable", "/my env/bin/python")
    assert install_command("a") == '"/my env/bin/python" -m pip install a'


def test_the_versions_in_hints_are_those_of_the_project():
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {*project["dependencies"], *(r for group in project["optional-dependencies"].values() for r in group)}
    code = "".join(file.read_text(encoding="utf-8") for file in (root / "xmodal_cli").rglob("*.py"))
    named = set(re.findall(r"""install_command\(["']([a-z-]+[<>=]=[^"']+)""", code))
    named |= set(re.findall(r'^REQUIREMENT = "(.+)"$', code, re.MULTILINE))
    assert len(named) >= 4
    assert named <= allowed
