"""A folder of an index that was moved or renamed is recognized by its contents; nothing is embedded again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xmodal_cli.data import scan
from xmodal_cli.retrieval import moved
from xmodal_cli.retrieval.stored_metadata import read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def test_a_renamed_root(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(6)
    photo_index.add("album/x.jpg")
    photo_index.update()
    new = tmp_path / "renamed"
    photo_index.photos.rename(new)
    (new / "000.jpg").unlink()
    (new / "new.jpg").write_text("new")
    changes = photo_index.update(new)
    assert (changes.moved, changes.removed, changes.added, changes.num_computed) == (6, 1, 1, 1)
    assert (changes.metadata.roots, changes.moved_roots) == ((str(new),), (str(photo_index.photos),))
    photo_index.photos = new
    photo_index.check()
    assert photo_index.update().unchanged == 7


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_root_that_was_moved_into_another_folder(photo_index: PhotoIndexFixture, tmp_path: Path, left: str) -> None:
    photo_index.fill(4)
    photo_index.update()
    new = tmp_path / "archive" / "2020"
    new.parent.mkdir()
    shutil.copytree(photo_index.photos, new)
    for path in new.iterdir():
        os.utime(path, (1, 1))  # a copy need not keep the times
    shutil.rmtree(photo_index.photos)
    if left == "an empty folder":
        photo_index.photos.mkdir()
    changes = photo_index.update(new.parent)
    assert (changes.moved, changes.removed, changes.num_computed) == (4, 0, 0)
    assert changes.metadata.roots == (str(new.parent),)


def test_a_folder_with_other_photos_is_not_the_moved_one(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(4)
    photo_index.update()
    other = tmp_path / "other"
    shutil.copytree(photo_index.photos, other)
    for path in other.iterdir():
        path.write_bytes(path.read_bytes().upper())  # the same names and sizes
    shutil.rmtree(photo_index.photos)
    changes = photo_index.update(other)
    assert (changes.added, changes.removed, changes.moved_roots) == (4, 0, ())
    assert read_metadata(photo_index.index_folder).roots == (str(photo_index.photos), str(other))
    assert changes.metadata.num_items == 8


def test_a_copy_does_not_move_a_folder_that_still_exists(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(4)
    photo_index.update()
    copy = tmp_path / "copy"
    shutil.copytree(photo_index.photos, copy)
    changes = photo_index.update(copy)
    assert (changes.added, changes.num_computed, changes.moved_roots, changes.metadata.num_items) == (4, 0, (), 8)


def test_a_few_photos_of_an_unmounted_folder_do_not_move_it(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(6)
    photo_index.update()
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(photo_index.photos / "000.jpg", some)
    photo_index.photos.rename(tmp_path / "away")
    changes = photo_index.update(some)
    assert (changes.added, changes.removed, changes.metadata.num_items, changes.moved_roots) == (1, 0, 7, ())


def test_a_copy_of_an_unmounted_disk_does_not_move_it(
    photo_index: PhotoIndexFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root is below the mount point, and both are gone."""
    photo_index.fill(4)
    photo_index.photos.rename(tmp_path / "x")
    photo_index.photos = tmp_path / "usb" / "photos"
    photo_index.photos.parent.mkdir()
    (tmp_path / "x").rename(photo_index.photos)
    usb = str(photo_index.photos.parent)
    monkeypatch.setattr(scan, "mount_points", lambda: frozenset({usb}))
    monkeypatch.setattr(moved, "mount_points", lambda: frozenset({usb}))
    assert photo_index.update().metadata.mounts == (usb,)
    shutil.copytree(photo_index.photos, tmp_path / "copy")
    monkeypatch.setattr(scan, "mount_points", frozenset)
    monkeypatch.setattr(moved, "mount_points", frozenset)
    shutil.rmtree(usb)
    changes = photo_index.update(tmp_path / "copy")
    assert (changes.added, changes.moved_roots, changes.num_computed) == (4, (), 0)
    assert changes.metadata.roots == (str(photo_index.photos), str(tmp_path / "copy"))
