"""``update_index``: interrupted updates and rebuilds, and other models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import change_counts

from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import METADATA

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def test_an_interrupted_run_has_committed_what_it_computed(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(10)
    photo_index.update()
    for i in range(10, 20):
        photo_index.add(f"{i:03}.jpg")
    (photo_index.photos / "000.jpg").unlink()
    photo_index.embedder.paths.clear()
    photo_index.embedder.stop_after = 7
    with pytest.raises(KeyboardInterrupt):
        photo_index.update()
    assert len(photo_index.contents()) == 17  # nothing is removed before the end
    photo_index.embedder.paths.clear()
    photo_index.embedder.stop_after = None
    changes = photo_index.update()
    assert changes.num_computed == len(photo_index.embedder.paths) == 3
    assert change_counts(changes) == {"added": 3, "removed": 1, "unchanged": 16}
    photo_index.check()


def test_a_new_index_that_was_interrupted_can_be_searched(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(4)
    photo_index.embedder.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        photo_index.update()
    assert list(photo_index.contents()) == ["000.jpg", "001.jpg", "002.jpg"]
    photo_index.model = photo_index.model.__class__(**{**vars(photo_index.model), "fingerprint": "c" * 64})
    with pytest.raises(IncompatibleFeatures):
        photo_index.update()


def test_an_interrupted_rebuild_keeps_the_old_index_and_is_resumed(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(6)
    photo_index.update()
    old = photo_index.contents()
    (photo_index.photos / "000.jpg").unlink()
    photo_index.model = photo_index.model.__class__(**{**vars(photo_index.model), "fingerprint": "c" * 64})
    photo_index.embedder.order = True  # stands for the vectors of another model
    for stop_after in (2, 1):
        photo_index.embedder.paths.clear()
        photo_index.embedder.stop_after = stop_after
        with pytest.raises(KeyboardInterrupt):
            photo_index.update(rebuild=True)
        contents = photo_index.contents()
        assert all(np.array_equal(contents[name], vector) for name, vector in old.items())
    photo_index.embedder.paths.clear()
    photo_index.embedder.stop_after = None
    changes = photo_index.update(rebuild=True)
    assert (changes.num_computed, change_counts(changes)) == (2, {"added": 2, "unchanged": 3})
    assert list(photo_index.contents()) == [f"{i:03}.jpg" for i in range(1, 6)]
    assert all((vector >= 0).all() for vector in photo_index.contents().values())
    assert sorted(p.name for p in photo_index.index_folder.iterdir()) == sorted([METADATA, ITEMS, SEGMENTS])


def test_an_unfinished_rebuild_of_another_model_is_discarded(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(4)
    photo_index.update()
    photo_index.embedder.paths.clear()
    photo_index.embedder.stop_after = 2
    with pytest.raises(KeyboardInterrupt):
        photo_index.update(rebuild=True)
    photo_index.embedder.stop_after = None
    photo_index.model = photo_index.model.__class__(**{**vars(photo_index.model), "fingerprint": "c" * 64})
    assert photo_index.update(rebuild=True).num_computed == 4
    photo_index.check()
    assert len(photo_index.segments()) == 1


def test_another_model_requires_rebuild(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update(recall=0.5)
    old = photo_index.contents()
    photo_index.model = photo_index.model.__class__(
        **{**vars(photo_index.model), "name": "other", "fingerprint": "b" * 64}
    )
    with pytest.raises(IncompatibleFeatures, match=r"model toy \(aaaaaaaa\), not by other \(bbbbbbbb\)") as error:
        photo_index.update()
    assert "--rebuild" in error.value.hint
    assert photo_index.contents().keys() == old.keys()
    changes = photo_index.update(rebuild=True)
    assert (changes.metadata.model.name, changes.num_computed, changes.metadata.recall) == ("other", 3, 0.5)
