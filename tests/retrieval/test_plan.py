"""The work of an update of some of the folders of an index, which reads the rows of their photos only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.index_fixtures import PhotoIndexFixture, change_counts

from xmodal_cli.data.scan import scan_roots
from xmodal_cli.retrieval.database import DATE_INDEXES, ITEMS, NO_FACTS, OTHER_DECODING, PARTIAL_INDEXES
from xmodal_cli.retrieval.items import ItemStore
from xmodal_cli.retrieval.plan import make_plan


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the rows that updates compare with files."""
    found: list[str] = []
    real = ItemStore.states

    def states(self: ItemStore, *args: object) -> Iterator[tuple[int, str, int, int]]:
        for row in real(self, *args):  # type: ignore[arg-type]
            found.append(row[1])
            yield row

    monkeypatch.setattr(ItemStore, "states", states)
    return found


def fill(photo_index: PhotoIndexFixture) -> None:
    for folder in ("a", "a b", "a/c", "b"):
        for n in range(3):
            photo_index.add(f"{folder}/{n}.jpg")


def test_a_part_of_the_folders(photo_index: PhotoIndexFixture, rows_read: list[str]) -> None:
    fill(photo_index)
    photo_index.update()
    rows_read.clear()
    part = photo_index.photos / "a"
    (part / "0.jpg").unlink()
    photo_index.add("a/1.jpg", b"other bytes")
    photo_index.add("a/c/new.jpg")
    changes = photo_index.update(part)
    assert change_counts(changes) == {"added": 1, "updated": 1, "removed": 1, "unchanged": 10}
    assert sorted(rows_read) == sorted(
        str(part / name) for name in ("0.jpg", "1.jpg", "2.jpg", "c/0.jpg", "c/1.jpg", "c/2.jpg")
    )
    photo_index.check()


def test_all_folders_are_read_in_one_pass(photo_index: PhotoIndexFixture, rows_read: list[str]) -> None:
    fill(photo_index)
    folders = [photo_index.photos / name for name in ("a", "a b", "b")]
    photo_index.update(*folders)
    rows_read.clear()
    changes = photo_index.update(*folders, folders[0] / "c")
    assert change_counts(changes)["unchanged"] == len(rows_read) == 12
    rows_read.clear()
    assert change_counts(photo_index.update(folders[2], folders[1]))["unchanged"] == 12
    assert len(rows_read) == 6


def test_the_plan_is_that_of_all_rows(photo_index: PhotoIndexFixture) -> None:
    fill(photo_index)
    photo_index.update()
    (photo_index.photos / "a" / "c" / "0.jpg").unlink()
    photo_index.add("a b/3.jpg")
    for names in (("a",), ("a", "a/c"), ("a b", "b"), ("a/c/1.jpg",), (".",)):
        roots = [str((photo_index.photos / name).resolve()) for name in names]
        scan = scan_roots([Path(root) for root in roots])
        with photo_index.open() as index:
            expected = make_plan(index.items, scan, roots, {})
            assert make_plan(index.items, scan, roots, {}, is_complete=False) == expected


def test_photos_beside_imported_vectors(photo_index: PhotoIndexFixture, rows_read: list[str]) -> None:
    """An index with vectors that were imported has no folder that contains them."""
    fill(photo_index)
    photo_index.update()
    file = photo_index.index_folder / ITEMS
    with closing(sqlite3.connect(file)) as database:
        database.execute("DELETE FROM meta WHERE key = 'sha256'")
        database.execute("INSERT OR REPLACE INTO meta VALUES ('vectors', '\"/elsewhere\"')")
        database.execute("UPDATE meta SET value = '[]' WHERE key = 'roots'")
        database.commit()
    rows_read.clear()
    assert change_counts(photo_index.update(photo_index.photos / "b"))["unchanged"] == 12
    assert len(rows_read) == 3


def test_rare_photos_are_found_by_indexes(photo_index: PhotoIndexFixture) -> None:
    fill(photo_index)
    photo_index.update()
    with closing(sqlite3.connect(photo_index.index_folder / ITEMS)) as database:
        for condition, name in zip((OTHER_DECODING, NO_FACTS), PARTIAL_INDEXES, strict=True):
            plan = database.execute(f"EXPLAIN QUERY PLAN SELECT * FROM items WHERE {condition}").fetchall()
            assert name in plan[0][3]


def test_an_update_adds_the_indexes_to_an_older_index(photo_index: PhotoIndexFixture) -> None:
    fill(photo_index)
    photo_index.update()
    file = photo_index.index_folder / ITEMS
    with closing(sqlite3.connect(file)) as database:
        for name in PARTIAL_INDEXES:
            database.execute(f"DROP INDEX {name}")
        database.execute("UPDATE items SET decoding = 'rgb-1' WHERE id = 2")
        database.commit()
    with photo_index.open() as index:
        assert [entry.id for entry in index.items.of_other_decoding()] == [2]
    photo_index.update()
    with closing(sqlite3.connect(file)) as database:
        found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert {*PARTIAL_INDEXES, *DATE_INDEXES} <= found
