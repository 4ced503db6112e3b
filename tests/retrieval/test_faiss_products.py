"""Inner products by FAISS against float64, and searches with it against those with onnxruntime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.retrieval import faiss_products
from xmodal_cli.retrieval.half_precision import half_inner_products
from xmodal_cli.retrieval.vectors import Layout, StoredVectors, write_vectors

pytest.importorskip("faiss")


@pytest.fixture(autouse=True)
def imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    monkeypatch.setattr(faiss_products._Import, "module", faiss)


def stored(folder: Path, count: int, dim: int) -> tuple[StoredVectors, np.ndarray]:
    vectors = np.random.default_rng(count).standard_normal((count, dim)).astype(np.float16).astype(np.float32)
    layout = Layout("fp16", count, dim)
    write_vectors(folder / "vectors", layout, lambda rows: vectors[rows])
    return StoredVectors(folder / "vectors", layout), vectors


@pytest.mark.parametrize("dim", [1, 7, 8, 33, 512])
@pytest.mark.parametrize(
    "rows",
    [
        range(300),
        range(17, 18),
        range(5, 5),
        np.arange(40, 200),
        np.r_[0:30, 31:90, 299:300],
        np.arange(0, 300, 2),
        np.zeros(0, np.int64),
    ],
    ids=["all", "one", "no range", "run", "runs", "scattered", "none"],
)
def test_the_products_of_any_rows_have_the_error_of_float32(tmp_path: Path, rows: np.ndarray | range, dim: int) -> None:
    part, vectors = stored(tmp_path, 300, dim)
    direction = np.random.default_rng(1).standard_normal(dim).astype(np.float32)
    expected = vectors[np.asarray(rows, np.int64)].astype(np.float64) @ direction
    np.testing.assert_allclose(part.inner_products(rows, direction), expected, rtol=0, atol=1e-6 * dim)


def test_it_is_used_for_runs_and_centroids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, _ = stored(tmp_path, 300, 16)
    calls = []

    def products(codes: np.ndarray, runs: list[tuple[int, int]], direction: np.ndarray) -> np.ndarray:
        calls.append(runs)
        return np.zeros(sum(stop - start for start, stop in runs), np.float32)

    monkeypatch.setattr(faiss_products, "inner_products", products)
    direction = np.ones(16, np.float32)
    part.inner_products(np.r_[3:20, 40:90], direction)
    part.inner_products(range(10, 200), direction)
    part.inner_products(np.arange(0, 300, 2), direction)  # copied first: FAISS is called once per run
    half_inner_products(np.ones((5, 16), np.float16), direction)
    assert calls == [[(3, 20), (40, 90)], [(10, 200)], [(0, 150)], [(0, 5)]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_products_that_are_not_finite_are_those_of_onnxruntime(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.ones((20, 16), np.float16)
    vectors[3, 5] = value
    found = half_inner_products(vectors, np.ones(16, np.float32))
    monkeypatch.setattr(faiss_products._Import, "module", None)
    np.testing.assert_array_equal(found, half_inner_products(vectors, np.ones(16, np.float32)))


def test_memory_is_freed() -> None:
    resource = pytest.importorskip("resource")
    codes, direction = np.zeros((50_000, 16), np.uint8), np.ones(8, np.float32)
    for _ in range(20):
        faiss_products.inner_products(codes, [(0, 50_000)], direction)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):  # each one has 600 KB of products and numbers
        faiss_products.inner_products(codes, [(0, 50_000)], direction)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KB


IMPORT = """
import sys
from xmodal_cli.retrieval import faiss_products
faiss_products.start_import({count})
if faiss_products._Import.thread is not None:
    faiss_products._Import.thread.join()
print(faiss_products.is_imported(), "faiss" in sys.modules)
"""


@pytest.mark.parametrize(("count", "expected"), [(100, "False False"), (10_000, "True True")])
def test_it_is_imported_for_large_indexes(count: int, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(count=count)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_a_damaged_installation_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(faiss_products._Import, "module", None)
    monkeypatch.setattr(faiss_products._Import, "thread", None)
    monkeypatch.setattr(faiss_products, "import_module", fail)
    faiss_products.start_import(100_000)
    assert faiss_products._Import.thread is not None
    faiss_products._Import.thread.join()
    assert not faiss_products.is_imported()
