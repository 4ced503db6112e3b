"""Filters select the photos that an obvious loop selects."""

from __future__ import annotations

import fnmatch
import os
import sqlite3
from datetime import datetime
from pathlib import Path

import pytest

from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.conditions import CAPTIONS
from xmodal_cli.retrieval.filters import (
    NAME_FUNCTION,
    PhotoFilter,
    matches_name,
    parse_date,
)
from xmodal_cli.retrieval.text_filter import TextFilter, parse_text_filter

PATHS = [
    "/photos/beach.jpg",
    "/photos/2024/Beach 2.JPG",
    "/photos/2024/beach/dog.jpg",
    "/photos/2024-06/IMG_0001.jpg",
    "/photos/2024-06/IMGx0002.jpg",
    "/photos/2024-06/100%.jpg",
    "/photosx/beach.jpg",
    "/photos/a/Äpfel.jpg",
    "/photos/a/A\u0308pfel 2.jpg",  # decomposed, as macOS writes it
    os.fsdecode(b"/photos/a/\xff\xfe.jpg"),
    "/beach.jpg",
]


@pytest.fixture
def database() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    database.execute(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, path BLOB, mtime_ns INTEGER, taken TEXT, caption TEXT)"
    )
    database.create_function(NAME_FUNCTION, 2, matches_name, deterministic=True)
    for number, path in enumerate(PATHS):
        mtime = int(datetime(2020 + number, 6, 15, 12).timestamp()) * 10**9
        taken = "2024-06-30T23:59:59" if number == 0 else None
        database.execute("INSERT INTO items VALUES (?, ?, ?, ?, NULL)", (number, os.fsencode(path), mtime, taken))
    return database


def select(database: sqlite3.Connection, photo_filter: PhotoFilter) -> list[int]:
    condition = photo_filter.condition()
    return [i for (i,) in database.execute(f"SELECT id FROM items WHERE {condition.sql} ORDER BY id", condition.values)]


def loop_by_name(text: str) -> list[int]:
    names = [Path(path).name for path in PATHS]
    if "*" in text or "?" in text:
        return [i for i, name in enumerate(names) if fnmatch.fnmatchcase(name.lower(), text.lower())]
    return [i for i, name in enumerate(names) if text.lower() in name.lower()]


@pytest.mark.parametrize("text", ["beach", "BEACH", "img_", "100%", "photos", "*.jpg", "IMG_*", "img?0002.jpg", "2024"])
def test_names(database: sqlite3.Connection, text: str) -> None:
    found = select(database, PhotoFilter(texts=(TextFilter("name", text),)))
    assert found == loop_by_name(text)
    others = select(database, PhotoFilter(texts=(TextFilter("name", text, negative=True),)))
    assert sorted(found + others) == list(range(len(PATHS)))


@pytest.mark.parametrize("text", ["äpfel", "ÄPFEL", "A\u0308pfel", "äpfel*.jpg"])
def test_names_in_any_case_and_composition(database: sqlite3.Connection, text: str) -> None:
    assert select(database, PhotoFilter(texts=(TextFilter("name", text),))) == [7, 8]


@pytest.mark.parametrize(
    "folders", [("/photos",), ("/photos/2024",), ("/",), ("/photos/2024", "/photos/a"), ("/none",)]
)
def test_folders(database: sqlite3.Connection, folders: tuple[str, ...]) -> None:
    expected = [
        i for i, path in enumerate(PATHS) if any(path.startswith(folder.rstrip("/") + "/") for folder in folders)
    ]
    assert select(database, PhotoFilter(folders=folders)) == expected


def test_a_photo_is_a_folder_of_itself(database: sqlite3.Connection) -> None:
    assert select(database, PhotoFilter(folders=("/photos/beach.jpg",))) == [0]


def test_dates_are_those_of_the_photo_else_of_the_file(database: sqlite3.Connection) -> None:
    """Photo 0 was taken in June 2024, its file is of 2020; the others have the dates of their files."""
    dates = [datetime(2024, 6, 30), *(datetime(2020 + i, 6, 15) for i in range(1, len(PATHS)))]
    for first, last in (("2024-06", "2024-07"), ("2024", "2025"), ("2021-06-15", "2023-06-16"), ("2030", "2031")):
        after, before = parse_date(first, "--after"), parse_date(last, "--before")
        start, end = (datetime.fromisoformat(text) for text in (after, before))
        expected = [i for i, date in enumerate(dates) if start <= date < end]
        assert select(database, PhotoFilter(after=after, before=before)) == expected
    assert select(database, PhotoFilter(before=parse_date("2024-06-30T23:59", "--before"))) == [1, 2, 3, 4]


def test_captions(database: sqlite3.Connection) -> None:
    database.execute(f"CREATE VIRTUAL TABLE {CAPTIONS} USING fts5(caption, tokenize='porter unicode61')")
    captions = {0: "a red car on a street", 1: "a car and a red dog", 2: 'dogs in a "hi"'}
    database.executemany(f"INSERT INTO {CAPTIONS} (rowid, caption) VALUES (?, ?)", captions.items())

    def of(text: str) -> list[int]:
        return select(database, PhotoFilter(texts=(TextFilter("caption", text),)))

    assert of("red car") == [0]
    assert of("car") == [0, 1]
    assert of("dog") == [1, 2]
    assert of('"hi" OR *') == of("NOT") == []


def test_all_conditions_hold(database: sqlite3.Connection) -> None:
    texts = (TextFilter("name", "beach"), TextFilter("name", "2", negative=True))
    assert select(database, PhotoFilter(("/photos",), texts=texts)) == [0]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2024", "2024-01-01T00:00:00"),
        ("2024-6", "2024-06-01T00:00:00"),
        ("2024-06-15", "2024-06-15T00:00:00"),
        ("2024-06-15T13:05", "2024-06-15T13:05:00"),
        ("2024-06-15 13:05:09", "2024-06-15T13:05:09"),
    ],
)
def test_dates(text: str, start: str) -> None:
    assert parse_date(text, "--after") == start


@pytest.mark.parametrize("text", ["", "24", "2024-13", "2024-02-30", "June", "2024/06", "0000", "2024-06-15T25:00"])
def test_invalid_dates(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--before .* is not a date"):
        parse_date(text, "--before")


def test_terms() -> None:
    assert parse_text_filter("name:beach") == TextFilter("name", "beach")
    assert parse_text_filter("- name:beach") == TextFilter("name", "beach", negative=True)  # as after two dashes
    assert parse_text_filter('-caption:"red car"') == TextFilter("caption", "red car", negative=True)
    for word in ("beach", "a dog: running", "name", "Name:beach", str(Path("name") / "x")):
        assert parse_text_filter(word) is None
    with pytest.raises(ConfigError, match="has no text"):
        parse_text_filter("name: ")
