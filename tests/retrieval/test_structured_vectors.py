"""The vectors of HNSW and IVF files, intact and damaged in every byte that is not part of a vector."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.structured_vectors import open_structure
from xmodal_cli.retrieval.vectors import Layout

DIM = 6
MAX_BYTES = 2**20  # of memory, for files of a few kilobytes
FIXTURE = Path(__file__).parents[1] / "fixtures" / "index-format-1" / "hnsw"


def _hnsw(count: int) -> Any:
    return faiss.IndexHNSWFlat(DIM, 4, faiss.METRIC_INNER_PRODUCT)


def _ivf(count: int) -> Any:
    return faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, max(1, count // 8), faiss.METRIC_INNER_PRODUCT)


def _ivf_with_map(count: int) -> Any:
    index = _ivf(count)
    index.make_direct_map()
    return index


def _sparse_ivf(count: int) -> Any:
    """Most lists are empty, which FAISS writes in another form."""
    return faiss.IndexIVFFlat(faiss.IndexFlatIP(DIM), DIM, count, faiss.METRIC_INNER_PRODUCT)


def _write(path: Path, make: Any, count: int) -> np.ndarray:
    vectors = np.random.default_rng(count).standard_normal((count, DIM)).astype(np.float32)
    if make is _sparse_ivf:
        vectors[3:] = vectors[np.arange(3, count) % 3]
    index = make(count)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(path))
    return vectors


MAKERS = [_hnsw, _ivf, _ivf_with_map, _sparse_ivf]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("count", [1, 2, 40, 333])
def test_vectors_are_those_of_faiss(tmp_path: Path, make: Any, count: int) -> None:
    vectors = _write(tmp_path / "a.faiss", make, count)
    take = open_structure(tmp_path / "a.faiss", Layout("fp32", count, DIM))
    np.testing.assert_array_equal(take(np.arange(count)), vectors)
    rows = np.random.default_rng(0).integers(count, size=5)
    np.testing.assert_array_equal(take(rows), vectors[rows])
    for layout in (Layout("fp32", count + 1, DIM), Layout("fp32", count, DIM + 1), Layout("fp32", 2**39, DIM)):
        with pytest.raises(ValueError, match="it "):
            open_structure(tmp_path / "a.faiss", layout)


@pytest.mark.parametrize("make", MAKERS)
def test_damage_is_found_without_allocating_what_it_asks_for(tmp_path: Path, make: Any) -> None:
    """With one byte changed, or the end cut off, a file is refused or has the same vectors."""
    file, damaged = tmp_path / "a.faiss", tmp_path / "b.faiss"
    vectors = _write(file, make, 8)
    content, layout = file.read_bytes(), Layout("fp32", 8, DIM)
    is_vector = np.zeros(len(content), bool)
    for vector in vectors:
        start = content.rfind(vector.tobytes())
        while start >= 0:
            is_vector[start : start + vector.nbytes] = True
            start = content.rfind(vector.tobytes(), 0, start)
    num_refused = 0
    tracemalloc.start()
    for position in np.flatnonzero(~is_vector).tolist():
        for value in {0x7F, 0xFF, content[position] ^ 1} - {content[position]}:
            damaged.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
            try:
                found = open_structure(damaged, layout)(np.arange(8))
            except ValueError:
                num_refused += 1
            else:
                np.testing.assert_array_equal(found, vectors)
    for length in range(0, len(content), 7):
        damaged.write_bytes(content[:length])
        with pytest.raises(ValueError):
            open_structure(damaged, layout)
    assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    tracemalloc.stop()
    assert num_refused >= 60


def test_a_damaged_graph_of_an_old_index(tmp_path: Path) -> None:
    """FAISS would allocate terabytes for the sizes of this file."""
    folder = tmp_path / "indexes" / "old"
    shutil.copytree(FIXTURE, folder)
    file = folder / "index.faiss"
    content = bytearray(file.read_bytes())
    start = content.rfind(b"IxF")
    content[start + 8 + 4] = 0x7F  # of the number of vectors
    file.write_bytes(content)
    with pytest.raises(BadData, match=r"index\.faiss is damaged") as error:
        open_index(folder)
    assert "--rebuild" in error.value.hint
    assert file.read_bytes() == bytes(content)
