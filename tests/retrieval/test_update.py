"""The index matches the folders: what is added, updated, moved, removed, resumed and refused."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from xmodal_cli import atomic_folder
from xmodal_cli.data.scan import scan
from xmodal_cli.errors import BadData, IncompatibleFeatures, MissingData, StorageError, UnknownName
from xmodal_cli.retrieval import journal, resolve
from xmodal_cli.retrieval.index import CARD, ITEMS, VECTORS, read_metadata
from xmodal_cli.retrieval.update import IndexRequest, update_index

if TYPE_CHECKING:
    from helpers.index_fixtures import Shelf


def _counts(changes) -> dict[str, int]:
    names = ("added", "updated", "moved", "removed", "unchanged")
    return {name: getattr(changes, name) for name in names if getattr(changes, name)}


def _litter(shelf: Shelf) -> list[str]:
    return sorted(p.name for p in shelf.index_folder.parent.iterdir())


def test_a_new_index_holds_every_picture(shelf: Shelf) -> None:
    shelf.fill(5)
    shelf.add("deep/er/x.jpg")
    changes = shelf.update()
    assert _counts(changes) == {"added": 6}
    assert changes.num_computed == 6
    shelf.check()
    assert sorted(p.name for p in shelf.index_folder.iterdir()) == sorted([CARD, ITEMS, VECTORS])
    assert _litter(shelf) == [".shelf.lock", "shelf"]


def test_a_second_run_loads_no_model_and_writes_nothing(shelf: Shelf) -> None:
    shelf.fill(4)
    first = shelf.update()
    again = shelf.update()
    assert _counts(again) == {"unchanged": 4}
    assert (again.num_computed, shelf.num_loads) == (0, 1)
    assert again.card == first.card == read_metadata(shelf.index_folder)


def test_add_update_remove_compute_only_what_is_new(shelf: Shelf) -> None:
    shelf.fill(6)
    shelf.update()
    shelf.embedder.seen.clear()
    (shelf.photos / "001.jpg").unlink()
    shelf.add("003.jpg", b"other bytes")
    shelf.add("000a.jpg")
    changes = shelf.update()
    assert _counts(changes) == {"added": 1, "updated": 1, "removed": 1, "unchanged": 4}
    assert [p.name for p in shelf.embedder.seen] == ["000a.jpg", "003.jpg"]
    shelf.check()


def test_a_touched_file_is_read_but_not_computed(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.update()
    inode = (shelf.index_folder / VECTORS).stat().st_ino
    os.utime(shelf.photos / "001.jpg", ns=(1, 1))
    changes = shelf.update()
    assert _counts(changes) == {"unchanged": 3}
    assert changes.num_computed == 0
    assert (shelf.index_folder / VECTORS).stat().st_ino == inode  # the same vectors are not written again
    with shelf.open() as index:
        assert [i.mtime_ns for i in index.items.all_items()][1] == 1


def test_renamed_and_copied_files_keep_their_vectors(shelf: Shelf) -> None:
    shelf.fill(5)
    shelf.update()
    (shelf.photos / "000.jpg").rename(shelf.photos / "zzz.jpg")
    shutil.copy(shelf.photos / "001.jpg", shelf.photos / "copy.jpg")
    (shelf.photos / "002.jpg").rename(shelf.photos / "swap.jpg")
    (shelf.photos / "003.jpg").rename(shelf.photos / "002.jpg")
    (shelf.photos / "swap.jpg").rename(shelf.photos / "003.jpg")
    changes = shelf.update()
    assert _counts(changes) == {"moved": 1, "added": 1, "updated": 2, "unchanged": 2}
    assert changes.num_computed == 0
    shelf.check()


def test_identical_files_are_computed_once(shelf: Shelf) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        shelf.add(name, b"the same")
    assert shelf.update().num_computed == 1
    shelf.check()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_an_updated_index_equals_one_made_anew(shelf: Shelf, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    shelf.fill(30)
    shelf.update(kind=kind)
    for step in range(4):
        names = sorted(p.name for p in shelf.photos.iterdir())
        for name in rng.choice(names, 5, replace=False):
            (shelf.photos / name).unlink()
        for i in range(4):
            shelf.add(f"{rng.integers(1000):03}.jpg", f"{step} {i}".encode())
        shelf.update()
        shelf.check()
    assert read_metadata(shelf.index_folder).kind == kind
    updated = shelf.contents()
    shelf.index_folder = tmp_path / "anew"
    shelf.update(kind=kind)
    anew = shelf.contents()
    assert list(updated) == list(anew)
    assert np.array_equal(np.stack(list(updated.values())), np.stack(list(anew.values())))


def test_only_the_given_roots_lose_files(shelf: Shelf, tmp_path: Path) -> None:
    other = tmp_path / "photos-of-others"  # begins like the first root's name
    other.mkdir()
    (other / "o.jpg").write_bytes(b"o")
    shelf.fill(2)
    shelf.update(shelf.photos, other)
    (other / "o.jpg").unlink()
    (shelf.photos / "000.jpg").unlink()
    changes = shelf.update(shelf.photos)
    assert _counts(changes) == {"removed": 1, "unchanged": 2}
    assert changes.card.roots == (str(shelf.photos), str(other))
    assert "../photos-of-others/o.jpg" in shelf.contents()


def test_single_files_and_roots_inside_roots(shelf: Shelf) -> None:
    shelf.fill(3)
    odd = shelf.add("no suffix", b"named outright")
    assert _counts(shelf.update(shelf.photos / "001.jpg", odd)) == {"added": 2}
    changes = shelf.update(shelf.photos / "001.jpg", shelf.photos)
    assert changes.card.roots == (str(shelf.photos),)
    assert set(shelf.contents()) == {"000.jpg", "001.jpg", "002.jpg"}


def test_unreadable_pictures_are_listed_and_not_tried_again(shelf: Shelf) -> None:
    shelf.fill(2)
    bad = shelf.add("bad.jpg", b"bad bytes")
    shelf.add("worse.jpg", b"bad bytes")
    changes = shelf.update()
    assert [(Path(u.path).name, u.reason) for u in changes.unreadable] == [
        ("bad.jpg", "it is not a picture"),
        ("worse.jpg", "it is not a picture"),
    ]
    assert len(shelf.embedder.seen) == 3  # the same bytes are refused once
    again = shelf.update()
    assert (shelf.num_loads, again.card.num_unreadable, len(again.unreadable)) == (1, 2, 2)
    bad.write_bytes(b"mended")
    assert _counts(shelf.update()) == {"added": 1, "unchanged": 2}
    shelf.check()


def test_a_picture_that_goes_bad_leaves_the_index(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.update()
    shelf.add("001.jpg", b"bad now")
    changes = shelf.update()
    assert _counts(changes) == {"removed": 1, "unchanged": 2}
    assert len(changes.unreadable) == 1
    shelf.check()


def test_pictures_without_a_usable_vector_are_unreadable(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(3)
    whole = shelf.embedder.vector
    values = {b"001.jpg": np.nan, b"002.jpg": 0.0}
    monkeypatch.setattr(shelf.embedder, "vector", lambda c: whole(c) * np.float32(values.get(c, 1.0)))
    changes = shelf.update()
    assert (changes.card.num_items, len(changes.unreadable)) == (1, 2)
    assert "usable" in changes.unreadable[0].reason


def test_a_vector_of_the_wrong_length_is_a_clear_error(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(1)
    monkeypatch.setattr(shelf.embedder, "vector", lambda c: np.ones(5, np.float32))
    with pytest.raises(IncompatibleFeatures, match=r"shape \(5,\)"):
        shelf.update()


def test_a_killed_run_is_taken_up_where_it_stopped(shelf: Shelf) -> None:
    shelf.fill(10)
    shelf.update()
    for i in range(10, 20):
        shelf.add(f"{i:03}.jpg")
    shelf.embedder.seen.clear()
    shelf.embedder.stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        shelf.update()
    assert len(shelf.contents()) == 10  # the old index is untouched
    torn = journal.journal_path(shelf.index_folder)
    torn.write_bytes(torn.read_bytes()[:-5])  # the last record had not reached the disk
    shelf.embedder.seen.clear()
    shelf.embedder.stop_after = None
    changes = shelf.update()
    assert changes.num_computed == len(shelf.embedder.seen) == 4
    shelf.check()
    assert not torn.exists()


def test_a_journal_of_another_model_is_not_used(shelf: Shelf) -> None:
    shelf.fill(4)
    shelf.embedder.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        shelf.update()
    shelf.embedder.stop_after = None
    shelf.model = shelf.model.__class__(**{**vars(shelf.model), "fingerprint": "c" * 64})
    assert shelf.update().num_computed == 4


def test_another_model_is_refused_until_rebuilt(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.update(kind="hnsw")
    old = shelf.contents()
    shelf.model = shelf.model.__class__(**{**vars(shelf.model), "name": "other", "fingerprint": "b" * 64})
    with pytest.raises(IncompatibleFeatures, match=r"model toy \(aaaaaaaa\), not by other \(bbbbbbbb\)") as refusal:
        shelf.update()
    assert "--rebuild" in refusal.value.hint
    assert shelf.contents().keys() == old.keys()
    changes = shelf.update(rebuild=True)
    assert (changes.card.model.name, changes.num_computed, changes.card.kind) == ("other", 3, "hnsw")


def test_the_kind_can_change_without_computing(shelf: Shelf) -> None:
    shelf.fill(45)
    shelf.update()
    for kind in ("hnsw", "ivf", "flat"):
        changes = shelf.update(kind=kind)
        assert (changes.card.kind, changes.num_computed) == (kind, 0)
        shelf.check()
    with pytest.raises(UnknownName) as misspelt:
        shelf.update(kind="hsnw")
    assert "hnsw" in misspelt.value.hint


def test_two_writers_do_not_clash(shelf: Shelf) -> None:
    shelf.fill(1)
    with atomic_folder.only_writer(shelf.index_folder), pytest.raises(StorageError, match="being written by another"):
        shelf.update()
    shelf.update()


def test_a_folder_that_is_no_index_is_never_replaced(shelf: Shelf) -> None:
    shelf.fill(1)
    shelf.index_folder = shelf.photos
    with pytest.raises(BadData, match="not an index"):
        shelf.update()
    assert (shelf.photos / "000.jpg").exists()


def test_nothing_readable_writes_nothing(shelf: Shelf) -> None:
    shelf.add("a.jpg", b"bad")
    with pytest.raises(BadData, match="none of the 1 pictures"):
        shelf.update()
    assert not shelf.index_folder.exists()


def test_emptied_folders_leave_the_index_alone(shelf: Shelf) -> None:
    shelf.fill(2)
    shelf.update()
    for path in shelf.photos.iterdir():
        path.unlink()
    with pytest.raises(MissingData, match="no images"):
        shelf.update()
    assert len(shelf.contents()) == 2


def test_files_that_vanish_on_the_way_are_passed_over(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(3)
    whole = shelf.embedder.vector

    def delete_next(content: bytes) -> np.ndarray:
        (shelf.photos / "002.jpg").unlink(missing_ok=True)
        return whole(content)

    monkeypatch.setattr(shelf.embedder, "vector", delete_next)
    monkeypatch.setattr(resolve, "AHEAD", 1)
    changes = shelf.update()
    assert (changes.card.num_items, changes.unreadable) == (2, ())


def test_files_that_vanish_between_reading_and_decoding_are_passed_over(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.embedder.meanwhile = lambda path: path.unlink() if path.name == "001.jpg" else None
    changes = shelf.update()
    assert (changes.card.num_items, changes.unreadable) == (2, ())
    shelf.check()


def test_a_photo_that_is_replaced_while_it_is_read_waits_for_the_next_run(shelf: Shelf) -> None:
    """Its digest is of the old bytes, its vector of the new ones: kept, they would never be put right."""
    shelf.fill(3)
    shelf.embedder.meanwhile = lambda path: path.write_bytes(b"other bytes") if path.name == "001.jpg" else None
    changes = shelf.update()
    assert [(Path(u.path).name, u.reason) for u in changes.unreadable] == [
        ("001.jpg", "it changed while it was being read; index it again")
    ]
    assert set(shelf.contents()) == {"000.jpg", "002.jpg"}
    shelf.embedder.meanwhile = lambda path: None
    again = shelf.update()
    assert _counts(again) == {"added": 1, "unchanged": 2}
    shelf.check()


def test_a_photo_that_changed_after_the_listing_is_held_as_it_is_now(shelf: Shelf) -> None:
    shelf.fill(2)
    request = IndexRequest(scan([shelf.photos]), shelf.model)
    shelf.add("001.jpg", b"changed since")
    update_index(shelf.index_folder, request, lambda: shelf.embedder)
    shelf.check()
    shelf.embedder.seen.clear()
    assert _counts(shelf.update()) == {"unchanged": 2}
    assert shelf.embedder.seen == []


def test_one_new_photo_costs_one_photo(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(40)
    shelf.update()
    shelf.add("020a.jpg")
    read = list[str]()
    whole = resolve._try_read
    monkeypatch.setattr(resolve, "_try_read", lambda file: read.append(Path(file.path).name) or whole(file))
    shelf.embedder.seen.clear()
    assert _counts(shelf.update()) == {"added": 1, "unchanged": 40}
    assert read == [p.name for p in shelf.embedder.seen] == ["020a.jpg"]
    shelf.check()


def test_the_files_are_embedded_in_one_stream(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "AHEAD", 3)
    monkeypatch.setattr(resolve, "FLUSH", 2)
    shelf.fill(20)
    assert shelf.update().num_computed == 20
    assert shelf.embedder.num_calls == 1
    shelf.check()


def test_folders_that_cannot_be_read_keep_their_pictures(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(2)
    shelf.add("locked/x.jpg")
    shelf.update()
    listing = os.scandir

    def locked(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr("xmodal_cli.data.scan.os.scandir", locked)
    changes = shelf.update()
    assert changes.blind == {str(shelf.photos / "locked"): "Permission denied"}
    assert "locked/x.jpg" in shelf.contents()


def test_times_are_kept(shelf: Shelf) -> None:
    shelf.fill(1)
    first = shelf.update().card
    time.sleep(0.001)
    shelf.fill(2)
    second = shelf.update().card
    assert second.created == first.created < second.updated
    assert second.build != first.build
