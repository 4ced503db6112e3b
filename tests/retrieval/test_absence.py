"""Photos that are absent for another reason than deletion keep their vectors: unmounted disks, links, permissions."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.index_fixtures import sort_small_segments

from xmodal_cli.data import scan as scan_module
from xmodal_cli.errors import MissingData

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

Deny = Callable[[str, int], None]


@pytest.fixture
def two_roots(photo_index: PhotoIndexFixture, tmp_path: Path) -> tuple[PhotoIndexFixture, Path]:
    """An index of the folder of photos and of a drive with three photos."""
    photo_index.fill(2)
    drive = tmp_path / "drive"
    drive.mkdir()
    for name in ("x.jpg", "y.jpg", "z.jpg"):
        (drive / name).write_text(name)
    photo_index.update(photo_index.photos, drive)
    return photo_index, drive


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.rename(folder.parent / f"away-{path.name}")


def _restore(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.parent.glob("away-*"):
        path.rename(folder / path.name.removeprefix("away-"))


@pytest.mark.parametrize("how", ["empty", "missing", "other files", "a broken link"])
def test_a_root_that_is_absent_is_refused_and_kept(two_roots: tuple[PhotoIndexFixture, Path], how: str) -> None:
    photo_index, drive = two_roots
    before = photo_index.contents()
    _empty(drive)
    if how != "empty":
        drive.rmdir()
    if how == "other files":
        drive.mkdir()
        (drive / "not mounted.txt").write_text("")
    elif how == "a broken link":
        drive.symlink_to(drive.parent / "nowhere")
    (photo_index.photos / "000.jpg").unlink()
    with pytest.raises(MissingData, match=r"drive: .*; it had 3 photos .*; nothing was changed") as error:
        photo_index.update(photo_index.photos, drive)
    assert "--remove-missing" in error.value.hint and "mount its disk" in error.value.hint
    assert photo_index.contents().keys() == before.keys()
    if how == "other files":
        (drive / "not mounted.txt").unlink()
    elif drive.is_symlink():
        drive.unlink()
    _restore(drive)
    photo_index.embedder.paths.clear()
    changes = photo_index.update(photo_index.photos, drive)
    assert (changes.num_computed, changes.unchanged, changes.removed) == (0, 4, 1)


def test_the_other_roots_can_be_updated_alone(two_roots: tuple[PhotoIndexFixture, Path]) -> None:
    photo_index, drive = two_roots
    _empty(drive)
    (photo_index.photos / "000.jpg").unlink()
    changes = photo_index.update()
    assert (changes.removed, changes.metadata.num_items) == (1, 4)
    assert changes.metadata.roots == (str(photo_index.photos), str(drive))


def test_the_photos_are_removed_if_that_is_confirmed(two_roots: tuple[PhotoIndexFixture, Path]) -> None:
    photo_index, drive = two_roots
    shutil.rmtree(drive)
    changes = photo_index.update(photo_index.photos, drive, remove_missing=True)
    assert (changes.removed, changes.metadata.roots) == (3, (str(photo_index.photos),))
    assert photo_index.update().unchanged == 2


@pytest.mark.parametrize("is_sorted", [False, True])
def test_all_photos_can_be_removed(
    photo_index: PhotoIndexFixture, is_sorted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sorted:
        sort_small_segments(monkeypatch)
    photo_index.fill(45)
    photo_index.update()
    for path in photo_index.photos.iterdir():
        path.unlink()
    changes = photo_index.update(remove_missing=True)
    assert (changes.removed, changes.metadata.num_items, changes.metadata.roots) == (45, 0, (str(photo_index.photos),))
    assert photo_index.contents() == {}
    photo_index.fill(45)
    assert photo_index.update().added == 45
    photo_index.check()


def test_a_rebuild_does_not_drop_an_absent_root(two_roots: tuple[PhotoIndexFixture, Path]) -> None:
    photo_index, drive = two_roots
    _empty(drive)
    with pytest.raises(MissingData, match="it had 3 photos"):
        photo_index.update(photo_index.photos, drive, rebuild=True)


def test_a_new_root_that_does_not_exist_is_an_error(two_roots: tuple[PhotoIndexFixture, Path], tmp_path: Path) -> None:
    photo_index, drive = two_roots
    for confirmed in (False, True):
        with pytest.raises(MissingData, match="typo cannot be indexed: no such file"):
            photo_index.update(photo_index.photos, tmp_path / "typo", remove_missing=confirmed)
    shutil.rmtree(drive)
    with pytest.raises(MissingData, match="typo cannot be indexed"):
        photo_index.update(drive, tmp_path / "typo", remove_missing=True)


def test_a_single_photo_given_as_root(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    one = photo_index.photos / "000.jpg"
    photo_index.update(one, photo_index.photos / "001.jpg")
    one.unlink()
    with pytest.raises(MissingData, match=r"000\.jpg: no such file.*it had 1 photo "):
        photo_index.update(one, photo_index.photos / "001.jpg")
    changes = photo_index.update(one, photo_index.photos / "001.jpg", remove_missing=True)
    assert changes.metadata.roots == (str(photo_index.photos / "001.jpg"),)


@pytest.mark.parametrize("how", ["broken", "empty"])
def test_photos_behind_a_link_are_kept(photo_index: PhotoIndexFixture, tmp_path: Path, how: str) -> None:
    photo_index.fill(2)
    drive = tmp_path / "drive"
    (drive / "in").mkdir(parents=True)
    (drive / "in" / "x.jpg").write_text("x")
    (photo_index.photos / "usb").symlink_to(drive)
    (photo_index.photos / "single.jpg").symlink_to(drive / "in" / "x.jpg")
    assert photo_index.update().added == 4
    shutil.move(drive, tmp_path / "off")
    if how == "empty":
        drive.mkdir()
    changes = photo_index.update()
    assert (changes.removed, changes.unchanged, changes.metadata.num_items) == (0, 4, 4)
    links = {str(photo_index.photos / "single.jpg"), str(photo_index.photos / "usb")}
    assert {path: count for path, (_, count) in changes.kept.items()} == dict.fromkeys(links, 1)
    assert photo_index.update(remove_missing=True).removed == 2
    if how == "empty":
        drive.rmdir()
    shutil.move(tmp_path / "off", drive)
    assert photo_index.update().added == 2


def test_a_deleted_link_was_deleted(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(1)
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / "x.jpg").write_text("x")
    link = photo_index.photos / "usb"
    link.symlink_to(drive)
    photo_index.update()
    link.unlink()
    changes = photo_index.update()
    assert (changes.removed, changes.kept) == (1, {})


def test_a_folder_whose_photos_were_deleted(photo_index: PhotoIndexFixture) -> None:
    """An empty folder on the same disk is not a mount point."""
    photo_index.fill(1)
    photo = photo_index.add("album/x.jpg")
    photo_index.update()
    photo.unlink()
    assert photo_index.update().removed == 1


@pytest.mark.parametrize("left", ["the empty folder", "nothing", "a file of the disk below"])
def test_photos_of_a_mount_point_are_kept(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    photo_index.fill(1)
    mount = photo_index.add("media/usb/x.jpg").parent
    monkeypatch.setattr(scan_module, "mount_points", lambda: frozenset({str(mount)}))
    assert photo_index.update().metadata.mounts == (str(mount),)
    assert photo_index.update().metadata.mounts == (str(mount),)
    (mount / "x.jpg").rename(photo_index.photos.parent / "x.jpg")
    monkeypatch.setattr(scan_module, "mount_points", frozenset)
    if left == "nothing":
        mount.rmdir()
    elif left == "a file of the disk below":
        (mount / "below.jpg").write_text("below")
    changes = photo_index.update()
    assert (changes.removed, changes.metadata.mounts) == (0, (str(mount),))
    assert changes.kept == {str(mount): ("a disk was mounted here, and is not now", 1)}
    if left == "a file of the disk below":
        (mount / "below.jpg").unlink()
    mount.mkdir(exist_ok=True)
    (photo_index.photos.parent / "x.jpg").rename(mount / "x.jpg")
    monkeypatch.setattr(scan_module, "mount_points", lambda: frozenset({str(mount)}))
    assert photo_index.update().num_computed == 0
    photo_index.check()
    (mount / "x.jpg").unlink()
    (mount / "other.jpg").write_text("other")
    assert photo_index.update().removed == 1  # deleted while the disk is mounted


def test_an_empty_disk_instead_of_another(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(1)
    mount = photo_index.add("usb/x.jpg").parent
    monkeypatch.setattr(scan_module, "mount_points", lambda: frozenset({str(mount)}))
    photo_index.update()
    (mount / "x.jpg").unlink()
    assert photo_index.update().removed == 0
    changes = photo_index.update(remove_missing=True)
    assert (changes.removed, changes.metadata.mounts) == (1, ())


class _Entry:
    """An entry of a folder whose files cannot be accessed."""

    def __init__(self, entry: os.DirEntry[str], code: int) -> None:
        self.name, self.path, self._entry, self._code = entry.name, entry.path, entry, code

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._entry.is_dir(follow_symlinks=False)

    def is_symlink(self) -> bool:
        return self._entry.is_symlink()

    def stat(self) -> os.stat_result:
        raise OSError(self._code, os.strerror(self._code), self.path)


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Deny:
    """``deny(name, code)``: the entries of folders called ``name`` are listed, and fail with ``code``."""

    def start(name: str, code: int) -> None:
        listing = os.scandir

        class Listing(list):
            def __enter__(self) -> Listing:
                return self

            def __exit__(self, *error: object) -> None: ...

        def scandir(path: str):
            if Path(path).name != name:
                return listing(path)
            with listing(path) as entries:
                return Listing(_Entry(entry, code) for entry in entries)

        monkeypatch.setattr(scan_module.os, "scandir", scandir)

    return start


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ENOTCONN])
def test_a_folder_that_can_be_listed_but_not_entered(photo_index: PhotoIndexFixture, deny: Deny, code: int) -> None:
    photo_index.fill(1)
    for name in ("locked/a.jpg", "locked/b.jpg", "locked/in/c.jpg"):
        photo_index.add(name)
    photo_index.add("locked/notes.txt")
    photo_index.update()
    deny("locked", code)
    photo_index.add("locked/new.jpg")
    changes = photo_index.update()
    assert (changes.removed, changes.unchanged) == (0, 4)
    reason = os.strerror(code)
    expected = {str(photo_index.photos / "locked" / name): (reason, 1) for name in ("a.jpg", "b.jpg", "in")}
    assert changes.kept == expected
    assert photo_index.update(remove_missing=True).removed == 0  # they exist
    os_scan = scan_module.scan_roots([photo_index.photos])
    assert [p.path.name for p in os_scan.left_out] == ["a.jpg", "b.jpg", "in", "new.jpg"]


def test_a_root_whose_photos_cannot_be_looked_at(photo_index: PhotoIndexFixture, deny: Deny) -> None:
    photo_index.fill(2)
    photo_index.update()
    deny("photos", errno.EIO)
    with pytest.raises(MissingData, match=r"photos: input/output error; it had 2 photos"):
        photo_index.update()
    assert len(photo_index.contents()) == 2


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_root_that_cannot_be_listed(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    photo_index.fill(2)
    photo_index.update()

    def fail(path: str) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(scan_module.os, "scandir", fail)
    with pytest.raises(MissingData, match="it had 2 photos") as error:
        photo_index.update(remove_missing=True)
    assert "--remove-missing" not in error.value.hint  # would not help
    assert f"xmodal index --delete {photo_index.index_folder}" in error.value.hint
    assert len(photo_index.contents()) == 2


def test_a_changed_photo_that_cannot_be_read_keeps_its_vector(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmodal_cli.retrieval import file_hashing

    photo_index.fill(2)
    photo_index.update()
    before = photo_index.contents()["001.jpg"]
    photo_index.add("001.jpg", b"changed")

    def fail(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(file_hashing, "open_regular", fail)
        changes = photo_index.update()
        assert (changes.removed, changes.unchanged, len(changes.unreadable)) == (0, 2, 1)
        assert (photo_index.contents()["001.jpg"] == before).all()
    assert photo_index.update().updated == 1
    photo_index.check()
