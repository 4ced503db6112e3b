"""``update_index``: added, updated, moved and removed photos."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import change_counts, sort_small_segments

from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.retrieval import file_embedding, file_hashing
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import METADATA, read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _files_next_to(photo_index: PhotoIndexFixture) -> list[str]:
    return sorted(p.name for p in photo_index.index_folder.parent.iterdir())


def test_a_new_index_has_all_photos(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(5)
    photo_index.add("deep/er/x.jpg")
    changes = photo_index.update()
    assert change_counts(changes) == {"added": 6}
    assert changes.num_computed == 6
    photo_index.check()
    assert sorted(p.name for p in photo_index.index_folder.iterdir()) == sorted([METADATA, ITEMS, SEGMENTS])
    assert _files_next_to(photo_index) == ["family"]


def test_a_second_run_loads_no_model_and_writes_nothing(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(4)
    first = photo_index.update()
    again = photo_index.update()
    assert change_counts(again) == {"unchanged": 4}
    assert (again.num_computed, photo_index.num_loads) == (0, 1)
    assert again.metadata == first.metadata == read_metadata(photo_index.index_folder)


def test_only_new_bytes_are_embedded(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(6)
    photo_index.update()
    photo_index.embedder.paths.clear()
    (photo_index.photos / "001.jpg").unlink()
    photo_index.add("003.jpg", b"other bytes")
    photo_index.add("000a.jpg")
    changes = photo_index.update()
    assert change_counts(changes) == {"added": 1, "updated": 1, "removed": 1, "unchanged": 4}
    assert [p.name for p in photo_index.embedder.paths] == ["000a.jpg", "003.jpg"]
    photo_index.check()


def test_a_touched_file_is_read_but_not_embedded(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    segments = photo_index.segments()
    os.utime(photo_index.photos / "001.jpg", ns=(1, 1))
    changes = photo_index.update()
    assert change_counts(changes) == {"unchanged": 3}
    assert changes.num_computed == 0
    assert photo_index.segments() == segments  # unchanged vectors are not written again
    with photo_index.open() as index:
        assert [e.item.mtime_ns for e in index.items.all_items()][1] == 1


def test_renamed_and_copied_files_keep_their_vectors(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(5)
    photo_index.update()
    (photo_index.photos / "000.jpg").rename(photo_index.photos / "zzz.jpg")
    shutil.copy(photo_index.photos / "001.jpg", photo_index.photos / "copy.jpg")
    (photo_index.photos / "002.jpg").rename(photo_index.photos / "swap.jpg")
    (photo_index.photos / "003.jpg").rename(photo_index.photos / "002.jpg")
    (photo_index.photos / "swap.jpg").rename(photo_index.photos / "003.jpg")
    changes = photo_index.update()
    assert change_counts(changes) == {"moved": 1, "added": 1, "updated": 2, "unchanged": 2}
    assert changes.num_computed == 0
    photo_index.check()


def test_identical_files_are_embedded_once(photo_index: PhotoIndexFixture) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        photo_index.add(name, b"the same")
    assert photo_index.update().num_computed == 1
    photo_index.check()


@pytest.mark.parametrize("is_sorted", [False, True])
def test_an_updated_index_equals_a_new_one(
    photo_index: PhotoIndexFixture, is_sorted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sorted:
        sort_small_segments(monkeypatch)
    rng = np.random.default_rng(5)
    photo_index.fill(30)
    photo_index.update()
    for step in range(4):
        names = sorted(p.name for p in photo_index.photos.iterdir())
        for name in rng.choice(names, 5, replace=False):
            (photo_index.photos / name).unlink()
        for i in range(4):
            photo_index.add(f"{rng.integers(1000):03}.jpg", f"{step} {i}".encode())
        photo_index.update()
        photo_index.check()
    updated = photo_index.contents()
    photo_index.index_folder = tmp_path / "new"
    photo_index.update()
    new = photo_index.contents()
    assert list(updated) == list(new)
    assert np.array_equal(np.stack(list(updated.values())), np.stack(list(new.values())))


def test_only_files_under_the_given_roots_are_removed(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    other = tmp_path / "photos-of-others"  # has the name of the first root as prefix
    other.mkdir()
    (other / "o.jpg").write_bytes(b"o")
    photo_index.fill(2)
    photo_index.update(photo_index.photos, other)
    (other / "o.jpg").unlink()
    (photo_index.photos / "000.jpg").unlink()
    changes = photo_index.update(photo_index.photos)
    assert change_counts(changes) == {"removed": 1, "unchanged": 2}
    assert changes.metadata.roots == (str(photo_index.photos), str(other))
    assert "../photos-of-others/o.jpg" in photo_index.contents()


def test_single_files_and_nested_roots(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    odd = photo_index.add("no suffix", b"named explicitly")
    assert change_counts(photo_index.update(photo_index.photos / "001.jpg", odd)) == {"added": 2}
    changes = photo_index.update(photo_index.photos / "001.jpg", photo_index.photos)
    assert changes.metadata.roots == (str(photo_index.photos),)
    assert set(photo_index.contents()) == {"000.jpg", "001.jpg", "002.jpg"}


def test_the_recall_is_kept_until_it_is_changed(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(5)
    assert photo_index.update().metadata.recall == 0.99
    changes = photo_index.update(recall=1.0)
    assert (changes.metadata.recall, changes.num_computed) == (1.0, 0)
    assert photo_index.update().metadata.recall == 1.0
    for recall in (0.0, -1.0, 1.01, float("nan")):
        with pytest.raises(ConfigError, match="--recall must be above 0 and at most 1"):
            photo_index.update(recall=recall)


def test_a_folder_that_is_not_an_index_is_not_replaced(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(1)
    photo_index.index_folder = photo_index.photos
    with pytest.raises(BadData, match="not an index"):
        photo_index.update()
    assert (photo_index.photos / "000.jpg").exists()


def test_empty_folders_do_not_change_the_index(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    photo_index.update()
    for path in photo_index.photos.iterdir():
        path.unlink()
    with pytest.raises(MissingData, match=r"photos: it is empty; it had 2 photos .*; nothing was changed"):
        photo_index.update()
    assert len(photo_index.contents()) == 2


def test_one_new_photo_reads_and_embeds_one_file(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(40)
    photo_index.update()
    photo_index.add("020a.jpg")
    hashed = list[str]()
    hash_file = file_hashing._hash_file
    monkeypatch.setattr(file_hashing, "_hash_file", lambda file: hashed.append(Path(file.path).name) or hash_file(file))
    photo_index.embedder.paths.clear()
    assert change_counts(photo_index.update()) == {"added": 1, "unchanged": 40}
    assert hashed == [p.name for p in photo_index.embedder.paths] == ["020a.jpg"]
    photo_index.check()


def test_the_files_are_embedded_in_one_stream(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashing, "AHEAD", 3)
    monkeypatch.setattr(file_embedding, "COMMIT_VECTORS", 2)
    photo_index.fill(20)
    assert photo_index.update().num_computed == 20
    assert photo_index.embedder.num_calls == 1
    photo_index.check()


def test_created_and_updated_times(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(1)
    first = photo_index.update().metadata
    time.sleep(0.001)
    photo_index.fill(2)
    second = photo_index.update().metadata
    assert second.created == first.created < second.updated
    assert second.build != first.build
