"""Captioners by name: the default first, never a path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.served_captioners import write_captioners

from xmodal_cli import starter
from xmodal_cli.errors import UnknownName
from xmodal_cli.paths import models_dir, runs_dir
from xmodal_cli.recipes.models import set_default
from xmodal_cli.serve.captioner_names import captioner_state, list_captioners, resolve_captioner


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_home: None) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    write_captioners()


def names() -> list[str]:
    return [captioner.name for captioner in list_captioners()]


def test_the_default_captioner_is_the_first() -> None:
    assert names() == ["starter-captioner", "damaged", "my-run"]
    first = list_captioners()[0]
    assert first.default and first.data == "f8k" and first.cider and first.cider > 0.4 and first.error is None
    assert resolve_captioner(None) == resolve_captioner("starter-captioner") == "starter-captioner"
    set_default("my-run")
    assert names() == ["my-run", "damaged", "starter-captioner"] and resolve_captioner(None) == "my-run"
    assert [captioner.default for captioner in list_captioners()] == [True, False, False]


@pytest.mark.parametrize("copied", ["elsewhere", "damaged"])
def test_a_default_captioner_that_is_a_file_has_a_name(tmp_path: Path, copied: str) -> None:
    """A file that is called like another model is another captioner."""
    file = tmp_path / f"{copied}.safetensors"
    shutil.copy(runs_dir() / "my-run" / "model.safetensors", file)
    set_default(str(file))
    name = "elsewhere" if copied == "elsewhere" else "damaged (default)"
    others = ["damaged", "my-run", "starter-captioner"]
    assert names() == [name, *others] and resolve_captioner(name) == resolve_captioner(None) == str(file)
    set_default(str(models_dir() / "damaged.safetensors"))
    assert names() == ["damaged", "my-run", "starter-captioner"]


def test_a_default_captioner_that_cannot_be_read_has_an_error(tmp_path: Path) -> None:
    set_default("my-run")
    (runs_dir() / "my-run" / "model.safetensors").unlink()
    first, *others = list_captioners()
    assert first.name == "my-run" and first.default and first.error and "no model yet" in first.error
    assert [captioner.name for captioner in others] == ["damaged", "starter-captioner"]


@pytest.mark.parametrize(
    "name", ["", "..", "/etc/passwd", "models/damaged.safetensors", "damaged.safetensors", "nothing"]
)
def test_other_names_are_unknown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(models_dir())
    with pytest.raises(UnknownName) as error:
        resolve_captioner(name)
    assert "other" not in error.value.hint  # a matcher


def test_the_state_of_a_captioner_changes_with_its_file() -> None:
    before = captioner_state("my-run")
    assert captioner_state("my-run") == before and captioner_state("starter-captioner") is not None
    shutil.copy(str(starter.file_of(starter.CAPTIONER)), runs_dir() / "my-run" / "model.safetensors")
    assert captioner_state("my-run") != before and captioner_state("hf/someone/something") is None
