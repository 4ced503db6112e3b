"""A process that is killed at a random moment of a build, update, rebuild, merge or upgrade: the index can be searched,
and a rerun gives the same hits as a run that was not killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.format_1 import write_format_1

from xmodal_cli.retrieval.index import is_index
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

# every call of a function of the index, and every line of some, is a moment; the process ends in one of them
_RUN = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.index_fixtures import FakeEmbedder, PhotoIndexFixture
from xmodal_cli.data.scan import scan_roots
from xmodal_cli.retrieval import file_embedding, merging
from xmodal_cli.retrieval.update import IndexRequest, update_index
file_embedding.COMMIT_VECTORS, merging.FANOUT = 4, 2
left = int({moment!r})

def trace(frame, event, arg):
    global left
    if "/xmodal_cli/retrieval/" in frame.f_code.co_filename or frame.f_code.co_name in ("atomic_path", "write_lock"):
        left -= 1
        if left == 0:
            os._exit(9)
        has_lines = frame.f_code.co_filename.endswith(("writer.py", "rebuild.py", "upgrade.py", "merging.py"))
        return trace if has_lines else None

fixture = PhotoIndexFixture(Path({scratch!r}))
request = IndexRequest(scan_roots([Path({photos!r})]), fixture.model, rebuild={rebuild!r})
sys.settrace(trace)
update_index(Path({index!r}), request, lambda: fixture.embedder)
sys.settrace(None)
print(-left)
"""


def _run(photo_index: PhotoIndexFixture, scratch: Path, moment: int, rebuild: bool = False) -> tuple[int, int]:
    """The exit status of an update that is killed at ``moment``, and the number of moments if it is not."""
    scratch.mkdir(parents=True)
    script = _RUN.format(
        tests=str(Path(__file__).parents[1]),
        moment=moment,
        scratch=str(scratch),
        photos=str(photo_index.photos),
        rebuild=rebuild,
        index=str(photo_index.index_folder),
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode, int(done.stdout) if done.returncode == 0 else 0


def _hits(photo_index: PhotoIndexFixture) -> list[tuple[str, float, int]]:
    with photo_index.open() as index:
        found = TopPhotos(
            index, [TermVector(photo_index.embedder.vector(b"query"), is_text=False)], SearchOptions(100)
        ).photos
        return [(os.path.relpath(p.item.path, photo_index.photos), p.score, p.duplicates) for p in found]


def _prepare(photo_index: PhotoIndexFixture, what: str) -> None:
    if what == "build":
        photo_index.fill(14)
        return
    photo_index.fill(10)
    if what == "upgrade":
        photos = sorted(photo_index.photos.iterdir())
        vectors = np.stack([photo_index.embedder.vector(path.read_bytes()) for path in photos])
        write_format_1(photo_index.index_folder, photo_index.photos, photos, vectors, photo_index.model)
    else:
        photo_index.update()
    for i in range(7):
        (photo_index.photos / f"{i:03}.jpg").unlink()
    (photo_index.photos / "007.jpg").rename(photo_index.photos / "moved.jpg")
    photo_index.add("008.jpg", b"changed")
    for i in range(20, 29):
        photo_index.add(f"{i:03}.jpg")
    photo_index.add("copy.jpg", b"025.jpg")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["build", "update", "rebuild", "upgrade"])
def test_a_killed_run_is_repeated(photo_index: PhotoIndexFixture, tmp_path: Path, what: str) -> None:
    is_rebuild, folder = what == "rebuild", photo_index.index_folder
    _prepare(photo_index, what)
    copy = tmp_path / "before"
    if is_index(folder):
        folder.rename(copy)
    rng, num_moments, expected = random.Random(what), 0, None
    for attempt in range(9):
        photo_index.index_folder = tmp_path / "indexes" / f"attempt{attempt}"
        if copy.exists():
            subprocess.run(["cp", "-a", str(copy), str(photo_index.index_folder)], check=True)
        moment = rng.randrange(1, num_moments) if attempt else 0
        status, count = _run(photo_index, tmp_path / f"a{attempt}", moment, is_rebuild)
        assert (status == 9) == (attempt > 0)
        num_moments = num_moments or count
        if attempt and is_index(photo_index.index_folder):
            _hits(photo_index)  # the index is that of some commit
        if attempt:
            assert _run(photo_index, tmp_path / f"b{attempt}", 0, is_rebuild)[0] == 0
        photo_index.check()
        hits = _hits(photo_index)
        expected = expected or hits
        assert hits == expected, f"killed at {moment} of {num_moments}"
        names = {path.name for path in photo_index.index_folder.iterdir()}
        assert names == {"index.json", "items.sqlite", "segments"}
        with photo_index.open() as index:
            assert len(photo_index.segments()) == len(index.vectors.parts)


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
