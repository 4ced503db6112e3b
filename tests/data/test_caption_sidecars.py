"""``xmodal caption --write txt`` writes captions next to photos and overwrites nothing without ``--force``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_captioner import Toy, install, paint

from xmodal_cli import paths
from xmodal_cli.data import caption_sidecars

Run = Callable[..., Any]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for index, color in enumerate(("red", "green", "blue")):
        paint(tmp_path / "photos" / f"{index}.png", color)
    return tmp_path / "photos"


def text_files(folder: Path) -> dict[str, str]:
    return {f.name: f.read_text() for f in sorted(folder.iterdir()) if f.suffix not in (".png", ".jpg")}


def test_each_photo_has_a_text_file(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "bad.jpg").write_text("text")
    assert xmodal("caption", photos, "--write", "txt").code == 0
    assert text_files(photos) == {"0.txt": "red and red\n", "1.txt": "green and green\n", "2.txt": "blue and blue\n"}


def test_one_caption_per_line(xmodal: Run, toy: Toy, photos: Path) -> None:
    xmodal("caption", photos / "0.png", "--write", "txt", "--num", 2)
    assert text_files(photos) == {"0.txt": "red and red\nworse 1\n"}


def test_existing_files_are_kept_without_force(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "1.txt").write_text("mine")
    outcome = xmodal("caption", photos, "--write", "txt")
    assert outcome.code == 0
    assert outcome.out.count("\n") == 3  # the caption is printed nevertheless
    assert text_files(photos)["1.txt"] == "mine"
    warnings = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: {photos / '1.txt'} already exists; --force overwrites it"]
    assert xmodal("caption", photos, "--write", "txt", "--force").code == 0
    assert text_files(photos)["1.txt"] == "green and green\n"


def test_captions_of_a_photo_with_the_same_stem_are_kept(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "0.jpg", "white")
    outcome = xmodal("caption", photos, "--write", "txt", "--force")
    assert text_files(photos)["0.txt"] == "white and white\n"
    assert f"{photos / '0.txt'} has the captions of {photos / '0.jpg'}" in outcome.err


def test_a_photo_is_never_overwritten(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "0.png", "red").rename(photos / "0.txt")  # a PNG file
    before = (photos / "0.txt").read_bytes()
    outcome = xmodal("caption", photos / "0.txt", "--write", "txt", "--force")
    assert outcome.out.endswith("\tred and red\n")
    assert (photos / "0.txt").read_bytes() == before
    assert "is one of the files to caption" in outcome.err


def test_a_folder_that_is_not_writable(xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_sidecars.os, "access", lambda folder, mode: not (mode & os.W_OK and folder == photos))
    outcome = xmodal("caption", photos, "--write", "txt")
    assert (outcome.code, outcome.out) == (1, "")
    assert f"error: {photos} cannot be written to" in outcome.err
    assert "hint: " in outcome.err
    assert not toy.calls


def test_a_full_disk_leaves_no_partial_file(
    xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = paths.write_text

    def full(target: Path, text: str) -> None:
        if target.name == "2.txt":
            with paths.storage_errors(target):
                raise OSError(28, "No space left on device")
        write(target, text)

    monkeypatch.setattr(caption_sidecars, "write_text", full)
    outcome = xmodal("caption", photos, "--write", "txt")
    assert outcome.code == 1
    assert "no space left on the disk" in outcome.err
    assert text_files(photos) == {"0.txt": "red and red\n", "1.txt": "green and green\n"}


def test_an_interrupted_run_keeps_its_files(xmodal: Run, toy: Toy, photos: Path) -> None:
    for index in range(3, 40):
        paint(photos / f"{index}.png", "white")
    toy.stop_after = 1
    outcome = xmodal("caption", photos, "--write", "txt")
    assert outcome.code == 130
    written = text_files(photos)
    assert len(written) == toy.batch_sizes[0] == outcome.out.count("\n")
    assert all(text.endswith("\n") for text in written.values())
