"""The state of a dataset's files: equal until one of them changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_datasets import make, touch

from xmodal_cli.data.source_state import source_state

CHANGES: dict[str, Callable[[Path], object]] = {
    "captions": lambda folder: (folder / "dataset_tiny.json").write_text("{}"),
    "time": lambda folder: os.utime(folder / "dataset_tiny.json", (9, 9)),
    "new list": lambda folder: touch(folder / "Flickr_8k.devImages.txt"),
    "new image": lambda folder: touch(folder / "c.jpg"),
    "new image in a folder": lambda folder: touch(folder / "photos" / "c.jpg"),
    "deleted image": lambda folder: (folder / "photos" / "a.jpg").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_changes_the_state(tmp_path: Path, change: str) -> None:
    folder = make("karpathy", tmp_path / "tiny")
    for path in (folder, folder / "photos"):
        os.utime(path, (1, 1))  # the clock of the file system may have a resolution of milliseconds
    (folder / "broken").symlink_to("nothing")
    os.utime(folder, (1, 1))
    before, of_file = source_state(folder), source_state(folder / "dataset_tiny.json")
    assert source_state(folder) == before == of_file
    CHANGES[change](folder)
    assert source_state(folder) != before and source_state(folder / "dataset_tiny.json") != of_file
