"""Files of vectors: written and read without faiss as faiss does, in half and full precision."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval import vectors as module
from xmodal_cli.retrieval.vectors import Layout, StoredVectors, write_vectors


def _random(count: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, dim)).astype(np.float32)


def _faiss_index(dtype: str, dim: int) -> faiss.Index:
    if dtype == "fp32":
        return faiss.IndexFlatIP(dim)
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize(("count", "dim"), [(1, 1), (37, 7), (1500, 16)])
def test_a_flat_file_is_that_of_faiss(tmp_path: Path, dtype: str, count: int, dim: int) -> None:
    vectors, layout = _random(count, dim), Layout(dtype, count, dim)
    vectors = vectors.astype(np.float16).astype(np.float32)  # faiss rounds some numbers in another way
    write_vectors(tmp_path / "ours.faiss", layout, vectors.__getitem__)
    theirs = _faiss_index(dtype, dim)
    theirs.add(vectors)
    faiss.write_index(theirs, str(tmp_path / "theirs.faiss"))
    assert (tmp_path / "ours.faiss").read_bytes() == (tmp_path / "theirs.faiss").read_bytes()
    stored = StoredVectors(tmp_path / "theirs.faiss", layout)
    np.testing.assert_array_equal(stored.take(np.arange(count)), theirs.reconstruct_n(0, count))


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_vectors_are_read_in_any_order(tmp_path: Path, dtype: str) -> None:
    vectors, layout = _random(1300, 8), Layout(dtype, 1300, 8)
    write_vectors(tmp_path / "v.faiss", layout, vectors.__getitem__)
    stored = StoredVectors(tmp_path / "v.faiss", layout)
    expected = vectors.astype(np.float16).astype(np.float32) if dtype == "fp16" else vectors
    rows = np.array([1299, 0, 700, 700])
    np.testing.assert_array_equal(stored.take(rows), expected[rows])
    for chosen in (range(1300), range(5, 9), np.arange(0, 1300, 2), rows):
        blocks = list(stored.blocks(chosen))
        np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), expected[np.array(chosen)])
        assert [i for part, _ in blocks for i in range(part.start, part.stop)] == list(range(len(chosen)))


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_sorted_files_are_written_in_the_order_of_the_source(
    tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITTEN", 64)
    vectors, positions, asked = _random(300, 16), np.random.default_rng(0).permutation(300), list[np.ndarray]()

    def take(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return vectors[rows]

    layout = Layout(dtype, 300, 16)
    write_vectors(tmp_path / "v.faiss", layout, take, positions)
    assert np.concatenate(asked).tolist() == list(range(300))  # a source on a disk is read in order
    expected = vectors.astype(np.float16).astype(np.float32) if dtype == "fp16" else vectors
    np.testing.assert_array_equal(StoredVectors(tmp_path / "v.faiss", layout).take(positions), expected)


@pytest.mark.parametrize("layout", [("fp32", 20, 8), ("fp16", 21, 8), ("fp16", 20, 7)])
def test_a_file_of_another_layout_is_damaged(tmp_path: Path, layout: tuple[str, int, int]) -> None:
    vectors = _random(20, 8)
    folder = tmp_path / "segments"
    folder.mkdir()
    write_vectors(folder / "v.faiss", Layout("fp16", 20, 8), vectors.__getitem__)
    with pytest.raises(BadData, match=r"v\.faiss is damaged: it does not have the"):
        StoredVectors(folder / "v.faiss", Layout(*layout))
    (folder / "v.faiss").unlink()
    with pytest.raises(FileNotFoundError):
        StoredVectors(folder / "v.faiss", Layout(*layout))
