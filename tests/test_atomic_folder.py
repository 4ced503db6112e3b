"""Atomic replacement of a folder, in one system call or by two renames, and recovery after a killed writer."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from xmodal_cli import atomic_folder


def _folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "name.txt").write_text(text)
    return path


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed-twice"])
def test_a_folder_is_replaced(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda first, second: False)
    folder = tmp_path / "folder"
    for text in ("a", "b"):
        with atomic_folder.draft_path(folder) as draft:
            (draft / "name.txt").write_text(text)
            atomic_folder.replace_folder(draft, folder)
        assert (folder / "name.txt").read_text() == text
        assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_second_rename_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "folder", "old")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if ".build-" in path.name:
            raise OSError(errno.EIO, "broken")
        return rename(path, target)

    monkeypatch.setattr(atomic_folder, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="broken"), atomic_folder.draft_path(folder) as draft:
        atomic_folder.replace_folder(draft, folder)
    assert (folder / "name.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 exists on Linux only")
def test_linux_exchanges_two_folders_in_one_call(tmp_path: Path) -> None:
    first, second = _folder(tmp_path / "a", "a"), _folder(tmp_path / "b", "b")
    assert atomic_folder._exchange(first, second)
    assert (first / "name.txt").read_text() == "b"
    assert not atomic_folder._exchange(first, tmp_path / "missing")


def test_a_writer_that_was_killed_between_its_two_renames(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    _folder(atomic_folder.backup_path(folder), "old")
    _folder(tmp_path / ".folder.build-12345678", "unfinished")
    atomic_folder.recover(folder)
    assert (folder / "name.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]
