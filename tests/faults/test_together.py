"""Searches of another process during updates: each one has the photos of one commit; two updates at a time wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xmodal_cli.errors import StorageError
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

SEARCH = """
import json, sys
import numpy as np
from pathlib import Path
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.top_photos import TopPhotos

folder, num = Path(sys.argv[1]), int(sys.argv[2])
vector = np.array(json.loads(sys.argv[3]), np.float32)
for _ in range(num):
    with open_index(folder) as index:
        found = TopPhotos(index, [TermVector(vector, is_text=False)], SearchOptions(1000, fold=False)).photos
        photos = sorted([Path(p.item.path).name, round(float(p.score), 3)] for p in found)
        print(json.dumps(photos), flush=True)
"""


def _search(photo_index: PhotoIndexFixture, num: int) -> subprocess.Popen[str]:
    vector = photo_index.embedder.vector(b"query").tolist()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SEARCH, str(photo_index.index_folder), str(num), json.dumps(vector)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _check_searches(photo_index: PhotoIndexFixture, num: int) -> None:
    """Each update adds photos and changes one; a search has the photos and scores of one state, never of two."""
    photo_index.fill(4)
    photo_index.update()
    states = [_state(photo_index)]
    with _search(photo_index, num) as process:
        assert process.stdout is not None
        lines, step = [process.stdout.readline()], 0
        while len(lines) < num:
            step += 1
            photo_index.add("000.jpg", f"changed {step}".encode())
            for i in range(2):
                photo_index.add(f"{step}-{i}.jpg")
            photo_index.update(rebuild=step % 5 == 0)
            states.append(_state(photo_index))
            lines += [process.stdout.readline() for _ in range(min(num - len(lines), 10))]
    assert process.returncode == 0
    found = [json.loads(line) for line in lines]
    positions = [states.index(photos) for photos in found]  # raises an error for a mixture of two
    assert len(found) == num and positions == sorted(positions) and len(set(positions)) > 2


def _state(photo_index: PhotoIndexFixture) -> list[list[object]]:
    terms = [TermVector(photo_index.embedder.vector(b"query"), is_text=False)]
    with photo_index.open() as index:
        found = TopPhotos(index, terms, SearchOptions(1000, fold=False)).photos
        return sorted([Path(p.item.path).name, round(float(p.score), 3)] for p in found)


def test_searches_of_another_process_have_one_state(photo_index: PhotoIndexFixture) -> None:
    _check_searches(photo_index, 120)


@pytest.mark.faults
def test_a_thousand_searches_of_another_process_have_one_state(photo_index: PhotoIndexFixture) -> None:
    _check_searches(photo_index, 1000)


def test_a_second_update_is_refused_while_one_runs(photo_index: PhotoIndexFixture) -> None:
    from xmodal_cli.atomic_folder import write_lock

    photo_index.fill(3)
    photo_index.update()
    with write_lock(photo_index.index_folder), pytest.raises(StorageError, match="is being written by another"):
        photo_index.update()
    photo_index.add("new.jpg")
    photo_index.update()
    assert "new.jpg" in photo_index.contents()
