"""``xmodal caption --write txt``: captions beside photos, and nothing lost."""

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
    for number, colour in enumerate(("red", "green", "blue")):
        paint(tmp_path / "photos" / f"{number}.png", colour)
    return tmp_path / "photos"


def held(folder: Path) -> dict[str, str]:
    return {f.name: f.read_text() for f in sorted(folder.iterdir()) if f.suffix not in (".png", ".jpg")}


def test_a_text_file_beside_each_photo(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "bad.jpg").write_text("text")
    assert xmodal("caption", photos, "--write", "txt").code == 0
    assert held(photos) == {"0.txt": "red and red\n", "1.txt": "green and green\n", "2.txt": "blue and blue\n"}


def test_all_captions_a_line_each(xmodal: Run, toy: Toy, photos: Path) -> None:
    xmodal("caption", photos / "0.png", "--write", "txt", "--num", 2)
    assert held(photos) == {"0.txt": "red and red\nworse 1\n"}


def test_what_is_there_is_kept_without_force(xmodal: Run, toy: Toy, photos: Path) -> None:
    (photos / "1.txt").write_text("mine")
    outcome = xmodal("caption", photos, "--write", "txt")
    assert outcome.code == 0
    assert outcome.out.count("\n") == 3  # the caption is printed all the same
    assert held(photos)["1.txt"] == "mine"
    warnings = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: {photos / '1.txt'} is there already and is left as it is; --force writes over it"]
    assert xmodal("caption", photos, "--write", "txt", "--force").code == 0
    assert held(photos)["1.txt"] == "green and green\n"


def test_two_photos_of_one_name_do_not_share_a_file(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "0.jpg", "white")
    outcome = xmodal("caption", photos, "--write", "txt", "--force")
    assert held(photos)["0.txt"] == "white and white\n"
    assert f"{photos / '0.txt'} holds the captions of {photos / '0.jpg'}" in outcome.err


def test_a_picture_is_never_written_over(xmodal: Run, toy: Toy, photos: Path) -> None:
    paint(photos / "0.png", "red").rename(photos / "0.txt")  # a picture by its content
    before = (photos / "0.txt").read_bytes()
    outcome = xmodal("caption", photos / "0.txt", "--write", "txt", "--force")
    assert outcome.out.endswith("\tred and red\n")
    assert (photos / "0.txt").read_bytes() == before
    assert "is among the files to caption" in outcome.err


def test_a_folder_that_cannot_be_written_to(
    xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caption_sidecars.os, "access", lambda folder, mode: not (mode & os.W_OK and folder == photos))
    outcome = xmodal("caption", photos, "--write", "txt")
    assert (outcome.code, outcome.out) == (1, "")
    assert f"error: {photos} cannot be written to" in outcome.err
    assert "hint: " in outcome.err
    assert not toy.calls


def test_a_full_disk_leaves_whole_files(xmodal: Run, toy: Toy, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert held(photos) == {"0.txt": "red and red\n", "1.txt": "green and green\n"}


def test_an_interrupted_run_keeps_what_it_wrote(xmodal: Run, toy: Toy, photos: Path) -> None:
    for number in range(3, 40):
        paint(photos / f"{number}.png", "white")
    toy.stop_after = 1
    outcome = xmodal("caption", photos, "--write", "txt")
    assert outcome.code == 130
    written = held(photos)
    assert len(written) == toy.sizes[0] == outcome.out.count("\n")
    assert all(text.endswith("\n") for text in written.values())
