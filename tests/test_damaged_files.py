"""Damaged, hostile and unreadable files of every kind that is read: an error that names the file, or no error at all.

Each reader gets its file truncated, with changed bytes, with other JSON values, as a folder, and without permission.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import tomli_w
from helpers import files_of_data, files_of_models, files_of_settings
from helpers.damage import changed_bytes, changed_values, check, with_metadata

KINDS = {**files_of_data.KINDS, **files_of_models.KINDS, **files_of_settings.KINDS}
JSON_FILES = ("registry", "summary", "results", "export", "stacked: id_mapping.json")
SAFETENSORS = {"matcher": "xmodal", "captioner": "xmodal", "shard": "xmodal", "state": "loop"}  # key of JSON metadata


@pytest.mark.parametrize("name", KINDS)
def test_changed_bytes(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    content = file.read_bytes()
    assert not check(kind, file)
    refused = 0
    for damaged in changed_bytes(content):
        file.write_bytes(damaged)
        refused += check(kind, file)
    assert refused > 3 or name == "log"  # a log skips lines


@pytest.mark.parametrize("name", [*JSON_FILES, *SAFETENSORS])
def test_other_json_values(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    content = file.read_bytes()
    changed = (
        with_metadata(content, SAFETENSORS[name])
        if name in SAFETENSORS
        else (json.dumps(value).encode() for value in changed_values(json.loads(content)))
    )
    refused = 0
    for number, damaged in enumerate(changed):
        if number % {"matcher": 3, "captioner": 11}.get(name, 1):  # loading a model takes milliseconds
            continue
        file.write_bytes(damaged)
        refused += check(kind, file)
    assert refused > 20


@pytest.mark.parametrize("name", ["config", "run-config", "preset"])
def test_other_toml_values(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    refused = 0
    for number, changed in enumerate(changed_values(tomllib.loads(file.read_text()))):
        if name == "config" or number % 7 == 0:
            try:
                text = tomli_w.dumps(changed)
            except (TypeError, AttributeError, ValueError):  # TOML has no null, and is a table
                continue
            file.write_text(text)
            refused += check(kind, file)
    assert refused > 2


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_in_its_place(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = kind.make(tmp_path)
    file.unlink()
    file.mkdir()
    check(kind, file)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_cannot_be_opened(name: str, tmp_path: Path) -> None:
    """A link to itself: the error is that of the operating system, for every user and library."""
    kind = KINDS[name]
    file = kind.make(tmp_path)
    file.unlink()
    file.symlink_to(file.name)
    check(kind, file)
