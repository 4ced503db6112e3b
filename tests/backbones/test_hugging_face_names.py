"""Which names are those of Hugging Face models."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.backbones.hugging_face_names import is_hugging_face_name


def test_names_of_the_hub_and_folders_with_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    assert is_hugging_face_name("hf/org/name")
    assert not is_hugging_face_name(str(tmp_path / "model"))
    (tmp_path / "model" / "config.json").write_text("{}")
    assert is_hugging_face_name(str(tmp_path / "model"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert is_hugging_face_name("~/model")


def test_the_empty_name_is_not_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert is_hugging_face_name(".") and not is_hugging_face_name("")
