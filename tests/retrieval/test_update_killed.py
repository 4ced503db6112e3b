"""A process that is killed at any moment of a change of an index: the index can be searched, and a rerun gives the same
hits as a run that was not killed.

XMODAL_TEST_KILLS=100 pytest tests/retrieval/test_update_killed.py kills each kind of run 100 times in both ways.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.format_1 import write_format_1
from helpers.killed_runs import KillServer
from PIL import Image

from xmodal_cli.reporter import SILENT
from xmodal_cli.retrieval.index import is_index, open_index
from xmodal_cli.retrieval.item_captions import CaptionWriter, NewCaption
from xmodal_cli.retrieval.query import parse_query
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.selection import photo_condition
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

NUM_KILLS = int(os.environ.get("XMODAL_TEST_KILLS", "8"))
Content = dict[str, tuple[Any, ...]]  # name -> score, size, date and caption of each photo that is found
# a first build; an update, in which segments are merged; one in which they are sorted by cell; a rebuild, which is
# adopted as a whole; an update that upgrades the index; one that fills in sizes and dates; an import of vectors
KINDS = ["build", "update", "cells", "rebuild", "upgrade", "facts", "import"]
ATOMIC = ["rebuild", "import"]


def _fill(photo_index: PhotoIndexFixture, num: int) -> None:
    """Photos of different sizes, and every third one with a damaged header."""
    for i in range(num):
        path = photo_index.add(f"{i:03}.jpg")
        if i % 3:
            Image.new("RGB", (i + 1, 5)).save(path, "png")


def _prepare(photo_index: PhotoIndexFixture, what: str) -> Path:
    """Write the index as it is before the run; returns the folder of its photos or vectors."""
    if what == "build":
        _fill(photo_index, 14)
        return photo_index.photos
    _fill(photo_index, 10)
    if what in ("upgrade", "facts"):
        photos = sorted(photo_index.photos.iterdir())
        vectors = np.stack([photo_index.embedder.vector(path.read_bytes()) for path in photos])
        write_format_1(photo_index.index_folder, photo_index.photos, photos, vectors, photo_index.model)
    else:
        photo_index.update()
        writer = CaptionWriter(photo_index.index_folder, SILENT)
        writer.write([NewCaption(p.digest, f"photo {p.path.stem}") for p in writer.prepare("model")[0]])
    if what == "facts":
        photo_index.open().close()  # upgrades it
        return photo_index.photos
    if what == "import":
        source = photo_index.photos.parent / "clip"
        source.mkdir()
        for i in range(2):
            np.save(source / f"v_{i}.npy", np.random.default_rng(i).standard_normal((17, 12)).astype(np.float32))
        return source
    for i in range(7):
        (photo_index.photos / f"{i:03}.jpg").unlink()
    (photo_index.photos / "007.jpg").rename(photo_index.photos / "moved.jpg")
    photo_index.add("008.jpg", b"changed")
    for i in range(20, 29):
        photo_index.add(f"{i:03}.jpg")
    photo_index.add("copy.jpg", b"025.jpg")
    return photo_index.photos


def _content(photo_index: PhotoIndexFixture, folder: Path) -> Content:
    """What a search finds, also by captions."""
    terms = [TermVector(photo_index.embedder.vector(b"query"), is_text=False)]
    with open_index(folder) as index:
        photos = TopPhotos(index, terms, SearchOptions(100, fold=False)).photos
        texts = {e.item.path: t for es, ts in index.items.with_captions(9) for e, t in zip(es, ts, strict=True)}
        if index.items.has_captions():
            condition = photo_condition(index, parse_query(["caption:photo"], SearchOptions()), folder)
            assert condition is not None
            found = {entry.item.path for entry in index.items.newest(condition)}
            assert found == {path for path, text in texts.items() if text is not None}
        return {
            Path(p.item.path).name: (p.score, p.item.width, p.item.height, p.item.taken, texts[p.item.path])
            for p in photos
        }


def _check_killed(found: Content, before: Content, after: Content, what: str) -> None:
    """A killed run leaves the content of some commit."""
    if what in ATOMIC:
        assert found in (before, after)
    for name, facts in found.items():
        assert facts[0] in [content[name][0] for content in (before, after) if name in content]
    assert {name for name in before if before[name][0] == after.get(name, [None])[0]} <= set(found)


def _restore(copy: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if copy.exists():
        shutil.copytree(copy, folder)


@pytest.fixture(scope="module")
def server() -> Iterator[KillServer]:
    with KillServer() as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("by", ["moment", "seconds"])
@pytest.mark.parametrize("what", KINDS)
def test_a_killed_run_is_repeated(
    photo_index: PhotoIndexFixture, server: KillServer, tmp_path: Path, what: str, by: str
) -> None:
    source, copy, folder = _prepare(photo_index, what), tmp_path / "before", tmp_path / "indexes" / "new"
    if is_index(photo_index.index_folder):
        photo_index.index_folder.rename(copy)
    before = _content(photo_index, shutil.copytree(copy, tmp_path / "read")) if copy.exists() else {}
    rng, num_killed = random.Random(what + by), 0
    _restore(copy, folder)
    is_killed, size = server.run(what, source, folder, seconds=None if by == "moment" else 60.0)
    assert not is_killed
    after = _content(photo_index, folder)
    for _ in range(NUM_KILLS):
        limit: dict[str, Any] = {by: rng.randrange(1, int(size)) if by == "moment" else rng.uniform(0, size)}
        _restore(copy, folder)
        num_killed += server.run(what, source, folder, **limit)[0]
        if is_index(folder):
            _check_killed(_content(photo_index, folder), before, after, what)
        if rng.random() < 0.3:  # the rerun is killed too
            server.run(what, source, folder, **limit)
        assert not server.run(what, source, folder, seconds=60.0)[0]
        assert _content(photo_index, folder) == after, f"killed at {limit} of {size}"
        assert {path.name for path in folder.iterdir()} == {"index.json", "items.sqlite", "segments"}
        with open_index(folder) as index:
            assert len(list((folder / "segments").iterdir())) == len(index.vectors.parts)
    if by == "moment":  # a run may end before its time is over
        assert num_killed > NUM_KILLS // 2


def test_searches_during_updates(photo_index: PhotoIndexFixture) -> None:
    """Every search finds photos that were in the index all the time, with their vectors."""
    photo_index.fill(12)
    photo_index.update()
    stop, problems, num_searches = threading.Event(), list[object](), [0]

    def search() -> None:
        vector = photo_index.embedder.vector(b"003.jpg")
        try:
            while not stop.is_set():
                with photo_index.open() as index:
                    (best,) = TopPhotos(index, [TermVector(vector, is_text=False)], SearchOptions(1)).photos
                if Path(best.item.path).name != "003.jpg" or best.score < 0.999:
                    problems.append(best)
                num_searches[0] += 1
        except BaseException as error:
            problems.append(error)

    readers = [threading.Thread(target=search) for _ in range(2)]
    for reader in readers:
        reader.start()
    for step in range(12):
        (photo_index.photos / f"{step % 3:03}.jpg").unlink(missing_ok=True)
        photo_index.add(f"new {step}.jpg")
        photo_index.update(rebuild=step == 6)
    stop.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert num_searches[0] > 0
    photo_index.check()
