"""Removing and renaming folders of an index, deleting and renaming indexes; no photo is read."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xmodal_cli import atomic_folder
from xmodal_cli.drafts import remove_abandoned
from xmodal_cli.errors import ConfigError, MissingData, StorageError
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.edits import delete_index, remove_root, rename_index, rename_root
from xmodal_cli.retrieval.stored_metadata import read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


@pytest.fixture
def two_roots(photo_index: PhotoIndexFixture, tmp_path: Path) -> tuple[PhotoIndexFixture, Path]:
    photo_index.fill(3)
    photo_index.add("bad.jpg", b"bad bytes")
    other = tmp_path / "a first"  # sorted before the other root
    other.mkdir()
    for name in ("x.jpg", "y.jpg"):
        (other / name).write_text(name)
    (other / "bad.jpg").write_text("bad")
    photo_index.update(photo_index.photos, other)
    return photo_index, other


def test_a_removed_root_takes_its_photos_with_it(two_roots: tuple[PhotoIndexFixture, Path]) -> None:
    photo_index, other = two_roots
    shutil.rmtree(other)  # it need not exist
    assert remove_root(photo_index.index_folder, str(other)) == 2
    metadata = read_metadata(photo_index.index_folder)
    assert (metadata.roots, metadata.num_items, metadata.num_unreadable) == ((str(photo_index.photos),), 3, 1)
    photo_index.check()
    photo_index.embedder.paths.clear()
    assert photo_index.update().unchanged == 3
    assert photo_index.embedder.paths == []


def test_roots_that_cannot_be_removed(two_roots: tuple[PhotoIndexFixture, Path]) -> None:
    photo_index, other = two_roots
    folder = photo_index.index_folder
    with pytest.raises(ConfigError, match="is not a folder of the index") as error:
        remove_root(folder, str(other) + "x")
    assert str(photo_index.photos) in error.value.hint
    with pytest.raises(ConfigError, match="is inside") as error:
        remove_root(folder, str(photo_index.photos / "in side"))
    assert f"xmodal index --exclude '/in side' --index {folder}" in error.value.hint
    remove_root(folder, str(other))
    with pytest.raises(ConfigError, match="the only folder") as error:
        remove_root(folder, str(photo_index.photos))
    assert f"xmodal index --delete {folder}" in error.value.hint


def test_a_renamed_root_keeps_the_vectors(two_roots: tuple[PhotoIndexFixture, Path], tmp_path: Path) -> None:
    photo_index, other = two_roots
    new = tmp_path / "zzz"  # sorted behind the other root
    with pytest.raises(MissingData, match="zzz does not exist"):
        rename_root(photo_index.index_folder, str(other), str(new))
    other.rename(new)
    before = photo_index.contents()
    assert rename_root(photo_index.index_folder, str(other), str(new)) == 2
    after = photo_index.contents()
    assert list(after) == ["000.jpg", "001.jpg", "002.jpg", "../zzz/x.jpg", "../zzz/y.jpg"]
    assert np.array_equal(after["../zzz/x.jpg"], before["../a first/x.jpg"])
    assert read_metadata(photo_index.index_folder).roots == (str(photo_index.photos), str(new))
    photo_index.embedder.paths.clear()
    assert photo_index.update(photo_index.photos, new).unchanged == 5
    assert photo_index.embedder.paths == []
    with pytest.raises(ConfigError, match="overlaps"):
        rename_root(photo_index.index_folder, str(new), str(photo_index.photos))


def test_a_deleted_index_leaves_other_files(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    photo_index.update()
    registry.set_default(photo_index.index_folder)
    notes = photo_index.index_folder / "notes.txt"
    notes.write_text("mine")
    delete_index(photo_index.index_folder)
    assert [p.name for p in photo_index.index_folder.iterdir()] == ["notes.txt"]
    assert registry.find_default() is None
    notes.unlink()
    photo_index.update()
    delete_index(photo_index.index_folder)
    assert list(photo_index.index_folder.parent.iterdir()) == []
    assert len(list(photo_index.photos.iterdir())) == 2


def test_an_index_gets_another_name(photo_index: PhotoIndexFixture, home: Path) -> None:
    photo_index.fill(2)
    photo_index.index_folder = home / "indexes" / "family"
    photo_index.update()
    registry.set_default(photo_index.index_folder)
    (home / "indexes" / "taken").mkdir()
    with pytest.raises(ConfigError, match="already exists"):
        rename_index(photo_index.index_folder, "taken")
    with pytest.raises(ConfigError, match="cannot be the name"):
        rename_index(photo_index.index_folder, ".hidden")
    with atomic_folder.write_lock(photo_index.index_folder), pytest.raises(StorageError, match="being written"):
        rename_index(photo_index.index_folder, "relatives")
    new = rename_index(photo_index.index_folder, "relatives")
    assert (new, registry.find_default()) == (home / "indexes" / "relatives", new)
    photo_index.index_folder = new
    assert photo_index.update().unchanged == 2


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_rename_that_is_killed_keeps_the_default_index(
    photo_index: PhotoIndexFixture, home: Path, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``calls``: the change of a name at which the process is killed: before the rename, in it, and after it."""
    photo_index.fill(2)
    photo_index.index_folder = home / "indexes" / "family"
    photo_index.update()
    registry.set_default(photo_index.index_folder)
    rename, left = os.rename, [calls]

    def count(*args: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        rename(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        for name in ("rename", "replace"):
            patch.setattr(os, name, count)
        rename_index(photo_index.index_folder, "relatives")
    assert registry.names() == [registry.find_index(None).name]
    assert registry.names() == (["relatives"] if calls == 3 else ["family"])


def test_a_delete_that_is_killed_leaves_no_index_and_no_files(
    photo_index: PhotoIndexFixture, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(2)
    photo_index.index_folder = home / "indexes" / "family"
    photo_index.update()

    rmtree = shutil.rmtree

    def no_time(path: Path, **options: Any) -> None:
        if path.name.startswith(".family.") and path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        rmtree(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", no_time)
        delete_index(photo_index.index_folder)
    assert registry.names() == []
    remove_abandoned(home / "indexes")  # as the first write there by another process does
    assert [path.name for path in (home / "indexes").iterdir() if not path.name.endswith(".lock")] == []


@pytest.mark.parametrize("name", ["notes.txt", "segments/notes.txt"])
def test_a_deleted_index_leaves_other_files_in_any_of_its_folders(photo_index: PhotoIndexFixture, name: str) -> None:
    photo_index.fill(2)
    photo_index.update()
    (photo_index.index_folder / name).write_text("mine")
    delete_index(photo_index.index_folder)
    left = [p for p in photo_index.index_folder.rglob("*") if p.is_file()]
    assert left == [photo_index.index_folder / name]


def test_an_index_is_deleted_on_a_full_disk(
    photo_index: PhotoIndexFixture, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting needs no space."""
    photo_index.fill(2)
    photo_index.index_folder = home / "indexes" / "family"
    photo_index.update()

    mkdir = Path.mkdir

    def no_new_folder(path: Path, *args: Any, **options: Any) -> None:
        if not path.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        mkdir(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", no_new_folder)
        delete_index(photo_index.index_folder)
    assert not photo_index.index_folder.exists()
