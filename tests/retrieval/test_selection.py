"""Searches with filters return the photos that scoring all selected photos one by one returns."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers.index_fixtures import DIM, PhotoIndexFixture

from xmodal_cli.errors import ConfigError, MissingData, Unavailable
from xmodal_cli.reporter import SILENT
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.item_captions import CaptionWriter, NewCaption
from xmodal_cli.retrieval.newest_photos import newest_photos
from xmodal_cli.retrieval.query import parse_query
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.selection import photo_condition, select_photos
from xmodal_cli.retrieval.top_photos import TopPhotos

QUERY = np.random.default_rng(5).standard_normal(DIM).astype(np.float32)


def age(path: Path, year: int) -> None:
    seconds = datetime(year, 6, 15, 12).timestamp()
    os.utime(path, (seconds, seconds))


@pytest.fixture
def filled(photo_index: PhotoIndexFixture) -> PhotoIndexFixture:
    """30 photos in two folders and two segments, of the years 2000 to 2029; some were deleted from the index."""
    for i in range(20):
        age(photo_index.add(f"{'ab'[i % 2]}/{i:03}.jpg"), 2000 + i)
    photo_index.update()
    for i in range(20, 30):
        age(photo_index.add(f"{'ab'[i % 2]}/{i:03}.jpg"), 2000 + i)
    for i in (3, 4):
        (photo_index.photos / "ab"[i % 2] / f"{i:03}.jpg").unlink()
    photo_index.update()
    return photo_index


def found(index: PhotoIndexFixture, *words: str, **options: object) -> list[str]:
    """The names of the hits; with a sentence among the words, best first."""
    query = parse_query(words, SearchOptions(**{"num_hits": 50, **options}))  # type: ignore[arg-type]
    with index.open() as opened:
        condition = photo_condition(opened, query, index.index_folder)
        if query.terms:
            selection = None if condition is None else select_photos(opened, condition)
            photos = TopPhotos(opened, [TermVector(QUERY)], query.options, selection).photos
            return [Path(photo.item.path).name for photo in photos]
        assert condition is not None
        return [Path(photo.item.path).name for photo in newest_photos(opened, query.options, condition)[0]]


def ranked(index: PhotoIndexFixture, wanted: list[Path]) -> list[str]:
    """All wanted photos, by cosine."""
    scores = {path.name: float(index.embedder.vector(path.read_bytes()) @ QUERY) for path in wanted}
    return sorted(scores, key=lambda name: -scores[name])


def test_folders_dates_and_names(filled: PhotoIndexFixture) -> None:
    photos = sorted(filled.photos.rglob("*.jpg"))
    assert found(filled, "q") == ranked(filled, photos)
    in_b = [path for path in photos if path.parent.name == "b"]
    assert found(filled, "q", folders=(str(filled.photos / "b"),)) == ranked(filled, in_b)
    assert found(filled, "q", folders=("b",)) == ranked(filled, in_b)  # relative to a folder of the index
    young = [path for path in photos if 2010 <= 2000 + int(path.stem) < 2025]
    assert found(filled, "q", after="2010", before="2025-01-01") == ranked(filled, young)
    named = [path for path in photos if "1" in path.name and "2" not in path.name]
    assert found(filled, "name:1", "q", "-name:2") == ranked(filled, named)
    both = [path for path in in_b if path in young]
    assert found(filled, "q", after="2010", before="2025", folders=("b",)) == ranked(filled, both)
    assert found(filled, "q", "name:none") == []


def test_thresholds(filled: PhotoIndexFixture) -> None:
    photos = sorted(filled.photos.rglob("*.jpg"))
    score = {path.name: float(filled.embedder.vector(path.read_bytes()) @ QUERY) for path in photos}
    norm = float(np.linalg.norm(QUERY))
    names = found(filled, "q")
    middle = (score[names[6]] + score[names[7]]) / 2 / norm
    query = parse_query(["q"], SearchOptions(50, threshold=middle))
    with filled.open() as opened:
        photos_above = TopPhotos(opened, [TermVector(QUERY / norm)], query.options).photos
    assert [Path(photo.item.path).name for photo in photos_above] == names[:7]


def test_filters_alone_list_the_newest_photos(filled: PhotoIndexFixture) -> None:
    assert found(filled, "name:.jpg", folders=("a",), num_hits=3) == ["028.jpg", "026.jpg", "024.jpg"]
    (filled.photos / "a" / "026.jpg").unlink()
    assert found(filled, "name:.jpg", folders=("a",), num_hits=3) == ["028.jpg", "024.jpg", "022.jpg"]


def test_copies_of_the_newest_photos_are_counted(filled: PhotoIndexFixture) -> None:
    content = (filled.photos / "a" / "028.jpg").read_bytes()
    for name in ("a/copy.jpg", "a/gone.jpg", "b/copy.jpg"):
        age(filled.add(name, content), 1990)
    filled.update()
    (filled.photos / "a" / "gone.jpg").unlink()
    with filled.open() as opened:
        for folder, copies in (("a", 1), ("b", 0)):
            query = parse_query([], SearchOptions(2, folders=(folder,)))
            condition = photo_condition(opened, query, filled.index_folder)
            assert condition is not None
            photos, num_vanished = newest_photos(opened, query.options, condition)
            assert ([photo.duplicates for photo in photos], num_vanished) == ([copies, 0], 0)


def test_all_photos_by_pages_of_growing_size(filled: PhotoIndexFixture) -> None:
    with filled.open() as opened:
        names = [Path(entry.item.path).name for entry in opened.items.newest(first_page=2)]
    assert names == sorted((path.name for path in filled.photos.rglob("*.jpg")), reverse=True)


def test_copies_outside_the_selection_are_not_counted(filled: PhotoIndexFixture) -> None:
    content = (filled.photos / "a" / "000.jpg").read_bytes()
    for name in ("a/copy.jpg", "b/copy.jpg"):
        filled.add(name, content)
    filled.update()
    query = parse_query(["q"], SearchOptions(50, folders=("a",)))
    with filled.open() as opened:
        condition = photo_condition(opened, query, filled.index_folder)
        assert condition is not None
        selection = select_photos(opened, condition)
        photos = TopPhotos(opened, [TermVector(QUERY)], query.options, selection).photos
    assert [photo.duplicates for photo in photos if photo.duplicates] == [1]
    assert all("/a/" in photo.item.path for photo in photos)


def test_captions_follow_the_photos(filled: PhotoIndexFixture) -> None:
    with pytest.raises(Unavailable, match="has no captions") as error:
        found(filled, "q", "caption:dog")
    assert "xmodal caption --index" in str(error.value.hint)
    writer = CaptionWriter(filled.index_folder, SILENT)
    pending, num_photos = writer.prepare("model")
    assert (len(pending), num_photos) == (28, 28)
    captions = {"001.jpg": "two dogs run", "002.jpg": "a red car", "005.jpg": "a car and a red dog"}
    written = [NewCaption(p.digest, captions.get(p.path.name, "a tree"), ("tag",)) for p in pending]
    assert writer.write(written) == 28
    assert sorted(found(filled, "caption:dog")) == ["001.jpg", "005.jpg"]  # dogs have the same stem
    assert found(filled, 'caption:"red car"') == ["002.jpg"]
    assert len(found(filled, "-caption:dog")) == 26
    assert writer.prepare("model")[0] == []
    (filled.photos / "a" / "002.jpg").rename(filled.photos / "b" / "moved.jpg")
    filled.add("b/001.jpg", b"other bytes")
    filled.update()
    assert found(filled, "caption:car") == ["005.jpg", "moved.jpg"]
    assert found(filled, "caption:dog") == ["005.jpg"]  # the changed photo has no caption any more
    assert [p.path.name for p in writer.prepare("model")[0]] == ["001.jpg"]
    assert len(writer.prepare("another model")[0]) == 28
    assert found(filled, "caption:car") == []


def test_captions_of_a_rebuilt_index(filled: PhotoIndexFixture) -> None:
    """The photos have other keys then."""
    writer = CaptionWriter(filled.index_folder, SILENT)
    writer.write([NewCaption(p.digest, f"number {p.path.stem}") for p in writer.prepare("model")[0]])
    (filled.photos / "a" / "002.jpg").unlink()
    filled.add("b/copy.jpg", b"a/008.jpg")
    filled.add("a/000.jpg", b"other bytes")
    filled.update(rebuild=True)
    assert sorted(found(filled, "caption:008", fold=False)) == ["008.jpg", "copy.jpg"]
    assert [found(filled, f"caption:{name}") for name in ("029", "002", "000")] == [["029.jpg"], [], []]
    assert [p.path.name for p in writer.prepare("model")[0]] == ["000.jpg"]
    writer.write([NewCaption(p.digest, "new") for p in writer.prepare("model")[0]])
    assert found(filled, "caption:new") == ["000.jpg"]
    (filled.index_folder / ITEMS).write_bytes(b"damaged")
    filled.update(rebuild=True)
    with pytest.raises(Unavailable, match="has no captions"):
        found(filled, "caption:new")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"folders": ("nowhere",)}, MissingData, "does not exist"),
        ({"folders": (".",)}, ConfigError, "no photo in"),
        ({"after": "June"}, ConfigError, "--after 'June' is not a date"),
        ({"num_hits": 0}, ConfigError, "at least 1"),
        ({"threshold": float("nan")}, ConfigError, "not a number"),
    ],
)
def test_invalid_options(
    filled: PhotoIndexFixture,
    options: dict[str, object],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(error, match=message):
        found(filled, "q", **options)


def test_photos_that_do_not_exist_are_counted_also_where_none_is_left(filled: PhotoIndexFixture) -> None:
    deleted = sorted((filled.photos / "a").iterdir())
    for photo in deleted:
        photo.unlink()
    with filled.open() as opened:
        query = parse_query([], SearchOptions(3, folders=("a",)))
        condition = photo_condition(opened, query, filled.index_folder)
        assert condition is not None
        assert newest_photos(opened, query.options, condition) == ([], len(deleted))
