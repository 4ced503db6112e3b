"""Files of vectors: written and read without faiss as faiss does, in half and full precision."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from xmodal_cli.errors import BadData, UnknownName
from xmodal_cli.retrieval.vectors import KINDS, Layout, StoredVectors, check_kind, to_float32, write_vectors


def _random(count: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)


def _faiss_index(dtype: str, dim: int) -> faiss.Index:
    if dtype == "fp32":
        return faiss.IndexFlatIP(dim)
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize(("count", "dim"), [(1, 1), (37, 7), (1500, 16)])
def test_a_flat_file_is_that_of_faiss(tmp_path: Path, dtype: str, count: int, dim: int) -> None:
    vectors, layout = _random(count, dim), Layout("flat", dtype, count, dim)
    vectors = vectors.astype(np.float16).astype(np.float32)  # faiss rounds some numbers in another way
    write_vectors(tmp_path / "ours.faiss", layout, vectors.__getitem__)
    theirs = _faiss_index(dtype, dim)
    theirs.add(vectors)
    faiss.write_index(theirs, str(tmp_path / "theirs.faiss"))
    assert (tmp_path / "ours.faiss").read_bytes() == (tmp_path / "theirs.faiss").read_bytes()
    stored = StoredVectors(tmp_path / "theirs.faiss", layout)
    assert stored._index is None  # read without faiss
    np.testing.assert_array_equal(stored.take(np.arange(count)), theirs.reconstruct_n(0, count))


def test_half_precision_is_converted_exactly() -> None:
    """All finite numbers of half precision."""
    bits = np.arange(2**16, dtype=np.uint16)
    finite = bits[np.isfinite(bits.view(np.float16))][:, None]
    expected = finite.view(np.float16).astype(np.float32)
    converted = to_float32(finite.view(np.uint8), Layout("flat", "fp16", len(finite), 1))
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_returns_the_stored_vectors(tmp_path: Path, kind: str, dtype: str) -> None:
    vectors, layout = _random(1300, 8), Layout(kind, dtype, 1300, 8)
    write_vectors(tmp_path / "v.faiss", layout, vectors.__getitem__)
    stored = StoredVectors(tmp_path / "v.faiss", layout)
    expected = vectors.astype(np.float16).astype(np.float32) if dtype == "fp16" else vectors
    rows = np.array([1299, 0, 700, 700])
    np.testing.assert_array_equal(stored.take(rows), expected[rows])
    np.testing.assert_array_equal(np.concatenate([block for _, block in stored.blocks()]), expected)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("kind", KINDS)
def test_candidates_are_live(tmp_path: Path, kind: str, dtype: str) -> None:
    vectors, layout = _random(600, 8), Layout(kind, dtype, 600, 8)
    write_vectors(tmp_path / "v.faiss", layout, vectors.__getitem__)
    live = np.random.default_rng(1).random(600) < 0.5
    stored = StoredVectors(tmp_path / "v.faiss", layout, live)
    found = stored.candidates(vectors[0], 50)
    assert len(found) == 50 and live[found].all()
    best = np.flatnonzero(live)[np.argsort(-(vectors[live] @ vectors[0]))[:10]]
    assert set(best) <= set(found)


@pytest.mark.parametrize("layout", [("flat", "fp32", 20, 8), ("flat", "fp16", 21, 8), ("flat", "fp16", 20, 7)])
def test_a_file_of_another_layout_is_damaged(tmp_path: Path, layout: tuple[str, str, int, int]) -> None:
    vectors = _random(20, 8)
    folder = tmp_path / "segments"
    folder.mkdir()
    write_vectors(folder / "v.faiss", Layout("flat", "fp16", 20, 8), vectors.__getitem__)
    with pytest.raises(BadData, match=r"v\.faiss is damaged: it does not have the"):
        StoredVectors(folder / "v.faiss", Layout(*layout))
    (folder / "v.faiss").unlink()
    with pytest.raises(FileNotFoundError):
        StoredVectors(folder / "v.faiss", Layout(*layout))


def test_unknown_kinds() -> None:
    with pytest.raises(UnknownName, match="hsnw"):
        check_kind("hsnw")
