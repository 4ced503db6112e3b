"""What a scan leaves out: thumbnail and trash folders, patterns, ignore files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from xmodal_cli.data.exclusions import is_system_folder
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.scan import scan_roots
from xmodal_cli.errors import BadData, Category, ConfigError


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(folder: Path, *exclude: str, roots: tuple[Path, ...] = (), bases: tuple[Path, ...] = ()) -> list[str]:
    result = scan_roots(roots or (folder,), exclude, [str(base) for base in bases])
    return [os.path.relpath(file.path, folder) for file in result.files]


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "#recycle", "#snapshot", ".@__thumb", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER"),
        *(".Trash", ".Trash-1000", ".Trashes", ".thumbnails", "lost+found", ".AppleDouble", "__MACOSX"),
        *("System Volume Information", "My Catalog Previews.lrdata", ".dtrash", ".stversions", ".picasaoriginals"),
        *("Family.photoslibrary/resources/derivatives", "Old.photolibrary/Thumbnails"),
    ],
)
def test_thumbnail_and_trash_folders_are_excluded(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a.jpg", f"album/{name}/a.jpg", f"{name}/deep/b.png")
    result = scan_roots([tmp_path])
    assert [file.path for file in result.files] == [str(tmp_path / "a.jpg")]
    assert len(result.excluded) == 2
    assert {problem.category for problem in result.excluded} == {Category.EXCLUDED}
    inside = scan_roots([tmp_path / name / "deep"])
    assert len(inside.files) == 1  # unless the folder itself was requested


def test_similar_names_are_not_excluded(tmp_path: Path) -> None:
    kept = ["Recycled art/a.jpg", "eaDir/a.jpg", "Trash the dress/a.jpg", "resources/a.jpg", "thumbnails/a.jpg"]
    make(tmp_path, *kept)
    assert names(tmp_path) == sorted(kept)
    assert not is_system_folder("Originals", "/x/Family.photoslibrary")


def test_files_of_apple_and_synology_are_excluded(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "._a.jpg", "SYNOPHOTO_THUMB_M.jpg", "SYNOFILE_THUMB_XL.png", ".DS_Store")
    result = scan_roots([tmp_path])
    assert [Path(f.path).name for f in result.files] == ["a.jpg"]
    assert sorted(p.path.name for p in result.excluded) == ["._a.jpg", "SYNOFILE_THUMB_XL.png", "SYNOPHOTO_THUMB_M.jpg"]


def test_patterns_have_the_syntax_of_gitignore(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "a.gif", "raw/b.jpg", "2020/raw/c.jpg", "2020/keep.gif", "2020/d.jpg")
    assert names(tmp_path, "raw/", "*.gif") == ["2020/d.jpg", "a.jpg"]
    assert names(tmp_path, "/raw") == ["2020/d.jpg", "2020/keep.gif", "2020/raw/c.jpg", "a.gif", "a.jpg"]
    assert names(tmp_path, "*.gif", "!keep.gif", "raw") == ["2020/d.jpg", "2020/keep.gif", "a.jpg"]
    assert names(tmp_path, "2020/*.jpg") == ["2020/keep.gif", "2020/raw/c.jpg", "a.gif", "a.jpg", "raw/b.jpg"]


def test_patterns_are_relative_to_the_folder_of_the_index(tmp_path: Path) -> None:
    make(tmp_path, "2020/raw/c.jpg", "2020/d.jpg")
    arguments = {"roots": (tmp_path / "2020",), "bases": (tmp_path,)}
    assert names(tmp_path, "/2020/raw", **arguments) == ["2020/d.jpg"]
    assert names(tmp_path, "/2020/raw", roots=(tmp_path / "2020",)) == ["2020/d.jpg", "2020/raw/c.jpg"]


def test_a_default_exclusion_can_be_taken_back(tmp_path: Path) -> None:
    make(tmp_path, "@eaDir/a.jpg", "#recycle/b.jpg")
    assert names(tmp_path, "!@eaDir/") == ["@eaDir/a.jpg"]


def test_ignore_files_hold_below_their_folder(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "private/b.jpg", "2020/private/c.jpg", "2020/x.png", "2021/x.png", "2021/in/y.png")
    (tmp_path / ".xmodalignore").write_text("# comment\n\nprivate/\n*.png\n")
    (tmp_path / "2021" / ".xmodalignore").write_text("!x.png\n")
    assert names(tmp_path) == ["2021/x.png", "a.jpg"]
    assert names(tmp_path, roots=(tmp_path / "2020",)) == []  # also those in the folders above a root
    assert names(tmp_path, "!*.png") == ["2020/x.png", "2021/in/y.png", "2021/x.png", "a.jpg"]


def test_a_dataset_of_a_folder_leaves_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.jpg", "@eaDir/a.jpg", "2020/b.jpg", "2020/raw/c.jpg", ".thumbnails/a.jpg", "._a.jpg")
    (tmp_path / "2020" / ".xmodalignore").write_text("raw/")
    assert load_dataset(str(tmp_path)).ids == ("a.jpg", "2020/b.jpg")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("2020").ids == ("b.jpg",)


def test_a_folder_that_cannot_be_read_is_not_left_out_of_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.jpg", "locked/b.jpg")
    listing = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(BadData, match="locked cannot be read: permission denied"):
        load_dataset(str(tmp_path))


def test_invalid_patterns_are_errors(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg")
    for pattern in ("", "  ", "!", "a\nb", "[z-a]"):
        with pytest.raises(ConfigError, match=r"pattern|--exclude") as error:
            scan_roots([tmp_path], [pattern])
        assert "for example: --exclude" in error.value.hint
    (tmp_path / ".xmodalignore").write_text("fine\n!\n")
    with pytest.raises(BadData, match=r"\.xmodalignore cannot be read: .*'!'"):
        scan_roots([tmp_path])
    (tmp_path / ".xmodalignore").unlink()
    (tmp_path / ".xmodalignore").mkdir()
    with pytest.raises(BadData, match=r"\.xmodalignore cannot be read"):
        scan_roots([tmp_path])
