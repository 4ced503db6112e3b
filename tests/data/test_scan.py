"""Scans of folders with links, cycles, unusual file names and unreadable subfolders."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xmodal_cli.data.scan import is_under, scan, sort_by_path
from xmodal_cli.errors import ConfigError, MissingData

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _names(folder: Path, *roots: Path) -> list[str]:
    return [os.path.relpath(f.path, folder) for f in scan(roots or (folder,)).files]


def _make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_images_are_listed_recursively_and_sorted_by_path(tmp_path: Path) -> None:
    _make(tmp_path, "b.JPG", "a/z.png", "a/b/c/d.webp", "a.jpeg", "notes.txt", "a/readme", "é.jpg", "Z.tif")
    assert _names(tmp_path) == ["Z.tif", "a.jpeg", "a/b/c/d.webp", "a/z.png", "b.JPG", "é.jpg"]
    assert scan([tmp_path]).num_non_images == 2


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    _make(tmp_path, ".hidden.jpg", "._a.jpg", ".git/x.jpg", "seen.jpg")
    assert _names(tmp_path) == ["seen.jpg"]
    assert _names(tmp_path, tmp_path / ".git") == [".git/x.jpg"]  # unless it is a root


def test_links_are_followed_and_cycles_end(tmp_path: Path) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    _make(photos, "a.jpg")
    _make(elsewhere, "b.jpg")
    (photos / "away").symlink_to(elsewhere)
    (photos / "loop").symlink_to(photos)
    (elsewhere / "back").symlink_to(photos)
    (photos / "self.jpg").symlink_to(photos / "self.jpg")
    (photos / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    (photos / "link.jpg").symlink_to(photos / "a.jpg")
    assert _names(photos) == ["a.jpg", "away/b.jpg", "link.jpg"]


def test_overlapping_roots_list_each_file_once(tmp_path: Path) -> None:
    _make(tmp_path, "a/x.jpg", "b.jpg")
    assert _names(tmp_path, tmp_path / "a", tmp_path, tmp_path / "a" / "x.jpg") == ["a/x.jpg", "b.jpg"]


def test_unusual_file_names(tmp_path: Path, photo_index: PhotoIndexFixture) -> None:
    names = [
        b"caf\xe9.jpg",
        b"new\nline.jpg",
        b"\x1b[31mred.jpg",
        b"quote's \"%00.jpg",
        b"-rf.jpg",
        b"[bold]b.jpg",
        b"a?b#c.jpg",
    ]
    for name in names:
        photo_index.add(name)
    assert sorted(os.fsencode(Path(f.path).name) for f in scan([photo_index.photos]).files) == sorted(names)
    assert photo_index.update().added == len(names)
    photo_index.check()
    photo_index.photos.joinpath(os.fsdecode(names[0])).rename(photo_index.photos / "cafe.jpg")
    assert photo_index.update().moved == 1
    photo_index.check()


def test_an_index_in_a_folder_with_an_unusual_name(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(2)
    photo_index.index_folder = tmp_path / "café #1?%20" / "x"
    photo_index.update()
    photo_index.check()
    photo_index.index_folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ConfigError, match="cannot hold an index"):
        photo_index.update()


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    _make(tmp_path, "a.jpg")
    assert _names(tmp_path) == ["a.jpg"]


def test_unreadable_folders_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(tmp_path, "a.jpg", "locked/b.jpg")
    listing = os.scandir

    def locked(path: str):
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr("xmodal_cli.data.scan.os.scandir", locked)
    assert scan([tmp_path]).unreadable_folders == {str(tmp_path / "locked"): "Permission denied"}
    with pytest.raises(MissingData, match="locked cannot be read: Permission denied"):
        scan([tmp_path / "locked"])


def test_folders_without_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"no images in .*no files at all"):
        scan([tmp_path])
    _make(tmp_path, "a.txt", "b.txt")
    with pytest.raises(MissingData, match="only 2 files of other kinds") as error:
        scan([tmp_path])
    assert ".jpg" in error.value.hint
    with pytest.raises(MissingData, match=r"nothing here cannot be indexed: no such file"):
        scan([tmp_path / "nothing here"])


def test_folders_deeper_than_the_recursion_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depth, limit = 400, sys.getrecursionlimit()
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("x.jpg").write_bytes(b"x")
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    try:
        paths = [f.path for f in scan([tmp_path]).files]
    finally:
        sys.setrecursionlimit(limit)
    assert paths == [str(tmp_path / "/".join(["d"] * depth) / "x.jpg")]
    Path("x.jpg").unlink()
    for _ in range(depth):  # removed here, since shutil.rmtree recurses
        os.chdir("..")
        Path("d").rmdir()


@pytest.mark.parametrize(
    ("path", "root", "inside"), [("/a/b", "/a", True), ("/ab", "/a", False), ("/a", "/a", True), ("/a", "/", True)]
)
def test_is_under(path: str, root: str, inside: bool) -> None:
    assert is_under(path, root) is inside


def test_paths_are_sorted_by_their_bytes() -> None:
    names = ["b", "a\udcff", "a", "é", "Z", "\U0001f600", "\uffee", "a/b", "a.b", "\udc80"]
    for chosen in (names, [name for name in names if name.isascii()], []):
        assert sort_by_path(reversed(chosen)) == sorted(chosen, key=os.fsencode)
