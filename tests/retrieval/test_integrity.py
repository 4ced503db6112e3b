from __future__ import annotations

import contextlib
import sqlite3

import pytest
from helpers.index_fixtures import PhotoIndexFixture

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.integrity import check_index


def change(photo_index: PhotoIndexFixture, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(photo_index.index_folder / ITEMS)) as database, database:
        database.execute(statement)


def test_an_index_without_damage(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(9)
    photo_index.update()
    (photo_index.photos / "003.jpg").unlink()
    photo_index.update()
    checked = check_index(photo_index.index_folder)
    assert (checked.num_photos, checked.index) == (8, "family")
    sizes = [path.stat().st_size for path in (*photo_index.segments(), photo_index.index_folder / ITEMS)]
    assert checked.num_segments == len(photo_index.segments())
    assert checked.num_bytes == sum(sizes)


def test_a_changed_vector(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(5)
    photo_index.update()
    (file,) = photo_index.segments()
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    with pytest.raises(BadData, match="checksum is wrong") as error:
        check_index(photo_index.index_folder)
    assert "--rebuild" in error.value.hint


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM items WHERE id = 2",
        "UPDATE items SET position = 77 WHERE id = 2",
        "UPDATE items SET position = 0 WHERE id = 2",
        "UPDATE items SET segment = 5 WHERE id = 2",
        "UPDATE items SET size = 'x' WHERE id = 2",
        "UPDATE meta SET value = '0.5' WHERE key = 'recall'",
        "UPDATE segments SET sha256 = 'x'",
    ],
)
def test_a_database_that_does_not_fit_its_vectors(photo_index: PhotoIndexFixture, statement: str) -> None:
    photo_index.fill(5)
    photo_index.update()
    change(photo_index, statement)
    with pytest.raises(BadData, match="damaged"):
        check_index(photo_index.index_folder)
