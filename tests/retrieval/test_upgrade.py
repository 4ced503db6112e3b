"""Indexes of format 1 are upgraded in their folder, by the first search or update, whenever that is interrupted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.format_1 import write_format_1

from xmodal_cli import atomic_folder
from xmodal_cli.errors import BadData, Category, StorageError
from xmodal_cli.retrieval import edits, registry, upgrade
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.items import UnreadableFile
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import METADATA, read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

FIXTURE = Path(__file__).parents[1] / "fixtures" / "index-format-1"
NAMES = [b"000.jpg", b"001.jpg", b"002.jpg", b"003.jpg", b"caf\xe9.jpg", b"copy of 001.jpg"]


@pytest.fixture(params=["flat", "hnsw"])
def old_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An index that was written by xmodal 0.1.0."""
    folder = tmp_path / "indexes" / "old"
    shutil.copytree(FIXTURE / request.param, folder)
    return folder


def _check(folder: Path, photo_index: PhotoIndexFixture) -> None:
    with open_index(folder) as index:
        entries = list(index.items.all_items())
        assert [os.fsencode(e.item.path) for e in entries] == [b"/photos/" + name for name in NAMES]
        assert [e.item.decoding for e in entries] == ["rgb-1" if b"003" in name else "srgb-2" for name in NAMES]
        contents = [b"001.jpg" if name.startswith(b"copy") else name for name in NAMES]
        expected = np.stack([photo_index.embedder.vector(content) for content in contents])
        np.testing.assert_array_equal(index.vectors.take(index.vectors.rows_of(entries)), expected)
        assert index.items.unreadable() == [
            UnreadableFile(
                "/photos/bad.jpg", 9, 1_700_000_000_000_000_000, "it is not an image", Category.NOT_AN_IMAGE
            ),
            UnreadableFile("/photos/locked.jpg", 9, -1, "Permission denied", Category.UNREADABLE),
        ]
        assert (index.metadata.roots, index.metadata.exclude) == (("/photos",), ("*.gif",))
        assert (len(index), index.metadata.model) == (6, photo_index.model)


def test_an_index_of_the_first_version(old_folder: Path, photo_index: PhotoIndexFixture) -> None:
    before = read_metadata(old_folder)
    _check(old_folder, photo_index)
    assert sorted(path.name for path in old_folder.iterdir()) == sorted([METADATA, ITEMS, SEGMENTS])
    assert json.loads((old_folder / METADATA).read_text())["format"] == 2
    assert read_metadata(old_folder) == before
    _check(old_folder, photo_index)


def test_vectors_are_linked_or_copied(old_folder: Path) -> None:
    """The file of a flat index gets another name; a graph is replaced by its vectors."""
    inode, kind = (old_folder / "index.faiss").stat().st_ino, json.loads((old_folder / METADATA).read_text())["kind"]
    open_index(old_folder).close()
    (segment,) = (old_folder / SEGMENTS).iterdir()
    assert (segment.stat().st_ino == inode) == (kind == "flat")


def test_an_old_index_is_listed_edited_and_deleted(
    old_folder: Path, photo_index: PhotoIndexFixture, tmp_path: Path
) -> None:
    edits.rename_root(old_folder, "/photos", str(photo_index.photos))
    with open_index(old_folder) as index:
        assert index.items.count_under(str(photo_index.photos)) == 6
    shutil.rmtree(old_folder)
    shutil.copytree(FIXTURE / "flat", old_folder)
    edits.delete_index(old_folder)
    assert not old_folder.exists()


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "step", ["new_id", "_link", "sync", "sha256_of", "_unreadable", "write_text", "remove_format_1"]
)
@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_upgrade(
    old_folder: Path,
    photo_index: PhotoIndexFixture,
    step: str,
    before: bool,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if step == "_link" and "hnsw" in request.node.name:
        pytest.skip("its vectors are extracted, not linked")
    call, calls = getattr(upgrade, step), list[str]()

    def interrupted(*args: Any) -> Any:
        calls.append(step)
        if before:
            raise _Killed
        call(*args)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, step, interrupted)
        with pytest.raises(_Killed):
            open_index(old_folder)
    assert calls
    _check(old_folder, photo_index)
    edits.rename_root(old_folder, "/photos", str(photo_index.photos))  # deletes what was left
    assert sorted(path.name for path in old_folder.iterdir()) == sorted([METADATA, ITEMS, SEGMENTS])
    assert len(list((old_folder / SEGMENTS).glob("*.faiss"))) == 1


@pytest.mark.parametrize("name", [ITEMS, METADATA, "index.faiss"])
@pytest.mark.parametrize("damage", ["missing", "foreign"])
def test_a_damaged_index_of_format_1_is_not_changed(old_folder: Path, name: str, damage: str) -> None:
    (old_folder / name).unlink()
    if damage == "foreign":
        (old_folder / name).write_bytes(b"foreign")
    before = {path.name: path.read_bytes() for path in old_folder.iterdir()}
    with pytest.raises(BadData) as error:
        open_index(old_folder)
    assert "--rebuild" in error.value.hint
    assert {path.name: path.read_bytes() for path in old_folder.iterdir() if path.is_file()} == before


def test_an_index_that_cannot_be_written(old_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object, **options: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("xmodal_cli.file_lock.os.open", denied)
    with pytest.raises(StorageError, match="is of an older format and cannot be upgraded") as error:
        open_index(old_folder)
    assert "copy" in error.value.hint


def test_an_index_that_another_process_upgrades(
    old_folder: Path, photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = atomic_folder.write_lock(old_folder)
    lock.__enter__()

    def other_process(seconds: float) -> None:
        upgrade.upgrade_locked(old_folder)  # and continues with its update

    monkeypatch.setattr(upgrade.time, "sleep", other_process)
    _check(old_folder, photo_index)
    lock.__exit__(None, None, None)


def test_an_update_of_an_old_index(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(8)
    photos = sorted(photo_index.photos.iterdir())
    vectors = np.stack([photo_index.embedder.vector(path.read_bytes()) for path in photos])
    write_format_1(photo_index.index_folder, photo_index.photos, photos, vectors, photo_index.model)
    journal = photo_index.index_folder.with_name(".family.journal")
    journal.write_bytes(b"vectors of an interrupted update of format 1")
    (photo_index.photos / "000.jpg").unlink()
    photo_index.add("new.jpg")
    changes = photo_index.update()
    assert (changes.added, changes.removed, changes.unchanged, changes.num_computed) == (1, 1, 7, 1)
    photo_index.check()
    assert not journal.exists()
    assert sorted(path.name for path in photo_index.index_folder.iterdir()) == sorted([METADATA, ITEMS, SEGMENTS])


def test_an_old_index_is_rebuilt(photo_index: PhotoIndexFixture, old_folder: Path) -> None:
    photo_index.fill(3)
    photo_index.index_folder = old_folder
    (old_folder / "index.faiss").write_bytes(b"damaged")
    assert photo_index.update(rebuild=True).num_computed == 3
    photo_index.check()
    assert sorted(path.name for path in old_folder.iterdir()) == sorted([METADATA, ITEMS, SEGMENTS])


def test_the_registry_reads_old_indexes(home: Path) -> None:
    shutil.copytree(FIXTURE / "flat", home / "indexes" / "old")
    assert registry.find_covering(["/photos/2020"]) == home / "indexes" / "old"
    assert (home / "indexes" / "old" / "index.faiss").exists()  # reading metadata changes nothing
