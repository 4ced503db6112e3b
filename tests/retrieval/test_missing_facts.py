"""Sizes and dates of the photos of an index that was upgraded are filled in by the next update."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.format_1 import write_format_1
from PIL import Image

from xmodal_cli.data.photo_facts import PhotoFacts
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.retrieval import missing_facts
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.query import parse_query
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.selection import photo_condition

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

_EXIF, _TAKEN = 0x8769, 0x9003
Facts = dict[str, tuple[int | None, str | None]]


class _Warnings(SilentReporter):
    def __init__(self) -> None:
        self.messages = list[str]()

    def warn(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture
def old(photo_index: PhotoIndexFixture) -> PhotoIndexFixture:
    """An index of format 1 of three photos of the years 2001 to 2003, a copy, and a file with a damaged header."""
    for i in range(1, 4):
        image, exif = Image.new("RGB", (10 * i, 8)), Image.Exif()
        exif.get_ifd(_EXIF)[_TAKEN] = f"{2000 + i}:05:06 07:08:09"
        image.save(photo_index.photos / f"{i}.jpg", exif=exif)
    photo_index.add("copy.jpg", (photo_index.photos / "1.jpg").read_bytes())
    photo_index.add("damaged.jpg")
    photos = sorted(photo_index.photos.iterdir())
    vectors = np.stack([photo_index.embedder.vector(path.read_bytes()) for path in photos])
    write_format_1(photo_index.index_folder, photo_index.photos, photos, vectors, photo_index.model)
    return photo_index


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers are read."""
    names, original = list[str](), missing_facts.read_photo_facts

    def recorded(path: Path) -> PhotoFacts:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(missing_facts, "read_photo_facts", recorded)
    return names


def _facts(index: PhotoIndexFixture) -> Facts:
    with index.open() as opened:
        return {Path(e.item.path).name: (e.item.width, e.item.taken) for e in opened.items.all_items()}


def _selected(index: PhotoIndexFixture, reporter: _Warnings) -> list[str]:
    with index.open() as opened:
        query = parse_query([], SearchOptions(after="2002", before="2003"))
        condition = photo_condition(opened, query, index.index_folder, reporter)
        assert condition is not None
        return sorted(Path(entry.item.path).name for entry in opened.items.newest(condition))


EXPECTED: Facts = {
    "1.jpg": (10, "2001-05-06T07:08:09"),
    "2.jpg": (20, "2002-05-06T07:08:09"),
    "3.jpg": (30, "2003-05-06T07:08:09"),
    "copy.jpg": (10, "2001-05-06T07:08:09"),
    "damaged.jpg": (0, None),
}


def test_an_update_reads_each_header_once(old: PhotoIndexFixture, read: list[str]) -> None:
    reporter = _Warnings()
    assert _selected(old, reporter) == []
    (message,) = reporter.messages
    assert "the dates in 5 photos of the index" in message
    assert f"xmodal index --index {old.index_folder}" in message
    assert old.update().unchanged == 5
    assert _facts(old) == EXPECTED
    assert len(read) == 4  # a copy is not read
    assert _selected(old, reporter) == ["2.jpg"]
    assert len(reporter.messages) == 1
    old.update()
    assert len(read) == 4
    old.add("damaged.jpg", (old.photos / "2.jpg").read_bytes())
    old.update()
    assert _facts(old)["damaged.jpg"] == EXPECTED["2.jpg"]


def test_files_that_cannot_be_read_now_are_read_later(
    old: PhotoIndexFixture, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(missing_facts, "read_photo_facts", lambda path: PhotoFacts())
        old.update()
    assert {width for width, _ in _facts(old).values()} == {None}

    def changed(path: Path) -> PhotoFacts:
        os.utime(path, (1, 1))  # another program writes the file
        return PhotoFacts(7, 7, "1999-01-01T00:00:00")

    with monkeypatch.context() as patch:
        patch.setattr(missing_facts, "read_photo_facts", changed)
        old.update()
    assert {width for width, _ in _facts(old).values()} == {None}
    assert old.update().unchanged == 5
    assert _facts(old) == EXPECTED


def test_an_interrupted_update_has_committed_what_it_read(
    old: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_facts, "COMMIT_PHOTOS", 1)
    monkeypatch.setattr(missing_facts, "_BLOCK", 1)
    original: Callable[[Path], PhotoFacts] = missing_facts.read_photo_facts
    calls = list[Path]()

    def interrupted(path: Path) -> PhotoFacts:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(missing_facts, "read_photo_facts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            old.update()
    assert sum(width is not None for width, _ in _facts(old).values()) in (2, 3)  # a copy has them too
    old.update()
    assert _facts(old) == EXPECTED


def test_photos_outside_the_scanned_folders_keep_their_facts_unread(old: PhotoIndexFixture) -> None:
    """A copy in another folder stands for them, if there is one."""
    other = old.photos.parent / "other"
    other.mkdir()
    (other / "new.jpg").write_bytes((old.photos / "3.jpg").read_bytes())
    old.update(other)
    facts = _facts(old)
    assert (facts["3.jpg"], facts["new.jpg"], facts["1.jpg"]) == (EXPECTED["3.jpg"], EXPECTED["3.jpg"], (None, None))
    with closing(sqlite3.connect(old.index_folder / ITEMS)) as database:
        assert database.execute("SELECT count(*) FROM items WHERE width IS NULL").fetchone() == (4,)
