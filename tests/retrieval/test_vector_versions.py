"""An index of an earlier version of decoding: photos with color profiles are embedded again, all others are not."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.icc_profiles import LINEAR, SWAPPED
from helpers.index_fixtures import HALF
from PIL import Image, ImageCms

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.errors import BadData
from xmodal_cli.retrieval import edits, vector_versions
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.items import RETRY
from xmodal_cli.retrieval.stored_metadata import read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILES = {
    "plain.png": None,
    "srgb.png": SRGB,
    "damaged.png": b"not a profile",
    "swapped.png": SWAPPED,
    "linear.png": LINEAR,
}
CHANGED = ["linear.png", "swapped.png"]


def save(path: Path, profile: bytes | None, side: int = 8) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (side, side), "red").save(path, **({} if profile is None else {"icc_profile": profile}))


def make_old(photo_index: PhotoIndexFixture) -> None:
    """Rewrite the index as an xmodal of the first version wrote it; new vectors differ from its vectors."""
    with contextlib.closing(sqlite3.connect(photo_index.index_folder / ITEMS)) as database, database:
        database.execute("DELETE FROM meta WHERE key = 'sha256'")  # older versions have no checksum
        database.execute("UPDATE meta SET value = '\"rgb-1\"' WHERE key = 'decoding'")
        database.execute("UPDATE items SET decoding = 'rgb-1'")
    photo_index.embedder.order = False
    photo_index.embedder.paths.clear()


@pytest.fixture
def old_index(photo_index: PhotoIndexFixture) -> PhotoIndexFixture:
    for side, (name, profile) in enumerate(PROFILES.items(), 8):
        save(photo_index.photos / name, profile, side)
    photo_index.embedder.order = True  # stands for the vectors of other pixels: they have other signs
    photo_index.update()
    make_old(photo_index)
    return photo_index


def embedded(photo_index: PhotoIndexFixture) -> list[str]:
    return sorted(path.name for path in photo_index.embedder.paths)


def check_vectors(photo_index: PhotoIndexFixture, changed: set[str]) -> None:
    """Assert that the vectors of the photos ``changed`` are new, and all others are those of the old version."""
    for name, vector in photo_index.contents().items():
        new = photo_index.embedder.vector((photo_index.photos / name).read_bytes())
        assert np.allclose(vector, new if name in changed else np.abs(new), atol=HALF), name


def test_only_photos_whose_profile_changes_colors_are_embedded_again(old_index: PhotoIndexFixture) -> None:
    changes = old_index.update()
    assert embedded(old_index) == CHANGED
    assert (changes.num_computed, changes.num_recomputed, changes.num_uncompared) == (2, 2, 0)
    assert (changes.unchanged, changes.updated, changes.added, changes.removed) == (5, 0, 0, 0)
    assert read_metadata(old_index.index_folder).decoding == DECODING
    check_vectors(old_index, set(CHANGED))
    again = old_index.update()
    assert (again.num_computed, again.num_recomputed, old_index.num_loads) == (0, 0, 2)
    assert again.metadata == changes.metadata  # nothing was written


def test_without_such_photos_no_model_is_loaded_and_no_vector_is_written(old_index: PhotoIndexFixture) -> None:
    for name in CHANGED:
        (old_index.photos / name).unlink()
    old_index.embedder.order = True
    old_index.update()
    make_old(old_index)
    loads, segments = old_index.num_loads, old_index.segments()
    changes = old_index.update()
    assert (changes.num_recomputed, old_index.num_loads) == (0, loads)
    assert old_index.segments() == segments
    assert read_metadata(old_index.index_folder).decoding == DECODING


def test_moved_touched_and_copied_photos_do_not_take_the_old_vector(old_index: PhotoIndexFixture) -> None:
    photos = old_index.photos
    (photos / "swapped.png").rename(photos / "moved.png")
    (photos / "plain.png").rename(photos / "moved plain.png")
    shutil.copyfile(photos / "linear.png", photos / "copy.png")
    shutil.copyfile(photos / "srgb.png", photos / "copy srgb.png")
    changes = old_index.update()
    assert (changes.num_computed, changes.num_recomputed, changes.moved, changes.added) == (2, 3, 2, 2)
    check_vectors(old_index, {"moved.png", "linear.png", "copy.png"})


def test_an_interrupted_update_continues(old_index: PhotoIndexFixture) -> None:
    old_index.embedder.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        old_index.update()
    old_index.embedder.stop_after = None
    changes = old_index.update()
    assert (changes.num_computed, changes.num_recomputed) == (1, 1)
    check_vectors(old_index, set(CHANGED))


def test_photos_of_other_folders_are_compared_when_these_are_indexed(
    old_index: PhotoIndexFixture, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    save(other / "o.png", SWAPPED, 30)
    save(other / "plain.png", None, 31)
    shutil.copyfile(old_index.photos / "linear.png", other / "copy.png")
    old_index.embedder.order = True
    old_index.update(old_index.photos, other)
    make_old(old_index)
    changes = old_index.update(old_index.photos)
    assert (changes.num_recomputed, changes.num_uncompared) == (3, 2)  # the copy has the vector of linear.png
    check_vectors(old_index, {*CHANGED, "../other/copy.png"})
    other.rename(tmp_path / "renamed")
    edits.rename_root(old_index.index_folder, str(other), str(tmp_path / "renamed"))
    old_index.embedder.paths.clear()
    changes = old_index.update(old_index.photos, tmp_path / "renamed")
    assert embedded(old_index) == ["o.png"]
    assert (changes.num_recomputed, changes.num_uncompared) == (1, 0)
    check_vectors(old_index, {*CHANGED, "../renamed/copy.png", "../renamed/o.png"})


def test_an_edited_index_keeps_its_version(old_index: PhotoIndexFixture) -> None:
    old_index.photos = old_index.photos.rename(old_index.photos.with_name("renamed"))
    edits.rename_root(old_index.index_folder, str(old_index.photos.with_name("photos")), str(old_index.photos))
    assert read_metadata(old_index.index_folder).decoding == "rgb-1"
    assert old_index.update().num_recomputed == 2
    check_vectors(old_index, set(CHANGED))


def test_a_photo_whose_header_cannot_be_read_now_is_compared_later(
    old_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = vector_versions.compare_decoding
    monkeypatch.setattr(
        vector_versions, "compare_decoding", lambda path, v: None if path.name == "swapped.png" else compare(path, v)
    )
    changes = old_index.update()
    assert (changes.num_recomputed, changes.num_uncompared) == (1, 1)
    check_vectors(old_index, {"linear.png"})
    monkeypatch.undo()
    changes = old_index.update()
    assert (changes.num_recomputed, changes.num_uncompared) == (1, 0)
    check_vectors(old_index, set(CHANGED))


def test_photos_that_could_not_be_read_are_tried_once_more(old_index: PhotoIndexFixture, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in (old_index.photos / "bad.jpg", other / "worse.jpg"):
        path.write_bytes(b"bad" + path.name.encode())
    old_index.update(old_index.photos, other)
    make_old(old_index)
    changes = old_index.update(old_index.photos)
    assert "bad.jpg" in embedded(old_index)
    assert [u.mtime_ns == RETRY for u in changes.unreadable] == [True, False]  # that of the other folder, and bad.jpg
    for expected in (["worse.jpg"], []):
        old_index.embedder.paths.clear()
        old_index.update(old_index.photos, other)
        assert embedded(old_index) == expected


def test_an_unknown_version_is_refused_and_can_be_rebuilt(old_index: PhotoIndexFixture) -> None:
    _set_decoding(old_index, "srgb-9")
    for run in (old_index.open, old_index.update):
        with pytest.raises(BadData, match="was written by a newer xmodal") as error:
            run()
        assert error.value.hint == "upgrade xmodal"
    assert old_index.update(rebuild=True).num_computed == 5
    _set_decoding(old_index, 3)
    with pytest.raises(BadData, match="is damaged: 3 is not text"):
        old_index.open()


def _set_decoding(photo_index: PhotoIndexFixture, value: object) -> None:
    with contextlib.closing(sqlite3.connect(photo_index.index_folder / ITEMS)) as database, database:
        database.execute("DELETE FROM meta WHERE key = 'sha256'")
        database.execute("UPDATE meta SET value = ? WHERE key = 'decoding'", (json.dumps(value),))
