"""All photos in the order of their dates: the same with the indexes by date and without them, in every time zone."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.index_fixtures import PhotoIndexFixture

from xmodal_cli.retrieval.conditions import ALL
from xmodal_cli.retrieval.database import DATE_INDEXES, ITEMS, SCHEMA
from xmodal_cli.retrieval.items import ItemStore
from xmodal_cli.retrieval.stored_metadata import read_metadata

CLOCKS_CHANGED = {  # seconds since 1970
    "Europe/Berlin": (1729990800, 1711846800),  # one hour back, one hour forward
    "Australia/Lord_Howe": (1712415600, 1728142200),  # half an hour
    "Pacific/Apia": (1325239200, 1333202400),  # a day forward, one hour back
    "America/Juneau": (-3225223727, 436352400),  # a day back, two hours back
    "UTC": (0, 4102444800),
}


@pytest.fixture
def set_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    if not hasattr(time, "tzset"):
        pytest.skip("the time zone cannot be changed on this platform")

    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


def fill(database: sqlite3.Connection, around: tuple[int, ...], seed: int) -> None:
    """Photos modified within a few hours of some times, half of them with an EXIF date, several at equal times."""
    rng = np.random.default_rng(seed)
    database.executescript(SCHEMA)
    for n in range(600):
        seconds = int(rng.choice(around)) + int(rng.normal(0, 6)) * 900 + int(rng.integers(0, 2))
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        mtime_ns = seconds * 10**9 + int(rng.integers(0, 10**9))
        path = f"/photos/{rng.integers(0, 100):03}/{n}.jpg".encode()
        database.execute(
            "INSERT INTO items (path, size, mtime_ns, digest, decoding, segment, position, taken)"
            " VALUES (?, 1, ?, x'00', 'd', 1, ?, ?)",
            (path, mtime_ns, n, moment if rng.random() < 0.5 else None),
        )


def drop_date_indexes(database: sqlite3.Connection) -> None:
    for name in DATE_INDEXES:
        database.execute(f"DROP INDEX {name}")


def paths(database: sqlite3.Connection, first_page: int = 500) -> list[str]:
    return [entry.item.path for entry in ItemStore(database, Path(ITEMS)).newest(ALL, first_page)]


@pytest.mark.parametrize("zone", CLOCKS_CHANGED)
def test_the_order_is_that_of_local_dates_and_paths(zone: str, set_zone: Callable[[str], None]) -> None:
    set_zone(zone)
    for seed in range(3):
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
            fill(database, CLOCKS_CHANGED[zone], seed)
            found = {size: paths(database, size) for size in (1, 2, 3, 5, 7, 11, 500)}
            drop_date_indexes(database)
            expected = paths(database)
            assert len(expected) == 600
            assert all(listed == expected for listed in found.values())


def test_both_indexes_are_used() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        fill(database, (10**9,), 0)
        statements: list[str] = []
        database.set_trace_callback(statements.append)
        paths(database)
        database.set_trace_callback(None)
        pages = [statement for statement in statements if "OFFSET" in statement]
        plans = [row[3] for text in pages for row in database.execute(f"EXPLAIN QUERY PLAN {text}")]
        assert {name for name in DATE_INDEXES if any(name in plan for plan in plans)} == set(DATE_INDEXES)
        assert "SCAN items" not in plans


def test_an_update_adds_the_indexes_to_an_older_index(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    for n, name in enumerate(sorted(os.listdir(photo_index.photos))):
        os.utime(photo_index.photos / name, (10**9 + n, 10**9 + n))
    photo_index.update()
    file = photo_index.index_folder / ITEMS
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        drop_date_indexes(database)
    before = read_metadata(photo_index.index_folder)

    def listed() -> list[str]:
        with photo_index.open() as index:
            return [Path(entry.item.path).name for entry in index.items.newest()]

    assert listed() == ["002.jpg", "001.jpg", "000.jpg"]  # and the index is not changed
    with closing(sqlite3.connect(file)) as database:
        assert not database.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'items_by_seconds'").fetchall()
    photo_index.update()
    with closing(sqlite3.connect(file)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert set(DATE_INDEXES) <= names
    assert listed() == ["002.jpg", "001.jpg", "000.jpg"]
    assert read_metadata(photo_index.index_folder) == before  # photos and vectors are the same


def test_an_older_index_that_cannot_be_written_is_listed(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    with closing(sqlite3.connect(photo_index.index_folder / ITEMS, isolation_level=None)) as database:
        drop_date_indexes(database)
        database.execute("PRAGMA journal_mode=DELETE")
    (photo_index.index_folder / ITEMS).chmod(0o444)
    photo_index.index_folder.chmod(0o555)
    try:
        with photo_index.open() as index:
            assert len(list(index.items.newest())) == 3
    finally:
        photo_index.index_folder.chmod(0o755)
