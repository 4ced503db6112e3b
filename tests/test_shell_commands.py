"""Commands in hints work when they are pasted into a shell."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from xmodal_cli import shell_commands
from xmodal_cli.shell_commands import install_command, model_word, xmodal_command


def test_words_are_quoted():
    assert xmodal_command("index", "/a/b") == "xmodal index /a/b"
    words = ["index", "/Urlaub & mehr/S\u00fcden", "--index", "my photos"]
    assert shlex.split(xmodal_command(*words)) == ["xmodal", *words]


def test_a_path_is_never_read_as_an_option():
    assert xmodal_command("eval", Path("-run"), "--split", "test") == "xmodal eval ./-run --split test"
    assert xmodal_command("eval", Path("/a/-run")) == "xmodal eval /a/-run"


def test_a_model_is_named_so_that_it_is_found(home):
    run = home.resolve() / "runs" / "vse" / "model.safetensors"
    assert model_word("starter", "starter") == "starter"
    assert model_word("vse", str(run)) == "vse"
    assert model_word("mine", str(home.resolve() / "models" / "mine.safetensors")) == "mine"
    assert model_word("vse", "/elsewhere/vse/model.safetensors") == "/elsewhere/vse"
    assert model_word("vse", "/elsewhere/vse.safetensors") == "/elsewhere/vse.safetensors"
    assert model_word("-a", str(run.parent.with_name("-a") / run.name)) == str(run.parent.with_name("-a"))


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
