"""Int8 quantization: the error bound holds, hits equal those of a float64 loop, and the file is optional."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval import quantized
from xmodal_cli.retrieval.quantized import QuantizedVectors, write_quantized
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.segments import SEGMENTS, IndexVectors, Segment, write_segment
from xmodal_cli.retrieval.vectors import QUANTIZED, Layout, StoredVectors


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "ROWS", 64)
    monkeypatch.setattr(quantized, "MIN_ELEMENTS", 1)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def spread(count: int, dim: int, seed: int) -> np.ndarray:
    """Vectors like those of models: some coordinates with a large mean, very different scales, one constant."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.standard_normal(dim))
    scale[0] = 0
    return unit(rng.standard_normal((count, dim)) * scale + 3 * rng.standard_normal(dim) * (np.arange(dim) % 7 == 0))


def stored(folder: Path, vectors: np.ndarray, is_quantized: bool = True) -> IndexVectors:
    layout = Layout("flat", "fp32", *vectors.shape)
    segment = write_segment(folder, layout, vectors.__getitem__, quantize=is_quantized)
    opened = IndexVectors(folder, [segment], vectors.shape[1])
    assert (opened.parts[0].quantized is not None) == is_quantized
    return opened


def slow_hits(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    """A loop over products in float64 with a normalized query; ties by row."""
    terms = [float(q) for q in query]
    norm = sum(q * q for q in terms) ** 0.5
    scores = [sum(q / norm * float(v) for q, v in zip(terms, row, strict=True)) for row in vectors]
    return sorted(range(len(scores)), key=lambda row: (-round(scores[row], 13), row))[:k]


@pytest.mark.parametrize(("count", "dim"), [(1, 3), (63, 8), (64, 8), (65, 8), (500, 33)])
@pytest.mark.parametrize("seed", [0, 1])
def test_errors_are_within_the_bound(tmp_path, count, dim, seed):
    vectors = spread(count, dim, seed)
    write_quantized(tmp_path / "c", vectors.shape, vectors.__getitem__)
    quantized_vectors = QuantizedVectors(tmp_path / "c", vectors.shape)
    rng = np.random.default_rng(seed)
    for query in (
        rng.standard_normal(dim),
        vectors[0].astype(np.float64),
        np.eye(dim)[1],
        np.zeros(dim),
        -np.ones(dim),
    ):
        scores, bound = quantized_vectors.scores(query)
        errors = np.abs(scores - vectors.astype(np.float64) @ query)
        assert scores.shape == (count,)
        assert errors.max() <= bound
        assert bound <= 0.05 * max(np.linalg.norm(query), 1e-6)  # tight enough to be useful


def test_the_bound_is_tight(tmp_path):
    """A query along the largest quantization error attains the bound, up to the quantization of the query."""
    vectors = spread(300, 16, 2)
    write_quantized(tmp_path / "c", vectors.shape, vectors.__getitem__)
    arrays = load_file(tmp_path / "c")
    codes = arrays["codes"].transpose(0, 2, 1).reshape(-1, 16)[:300].astype(np.float64)
    errors = vectors - (arrays["offset"].astype(np.float64) + arrays["step"] * codes)
    worst = errors[np.argmax((errors**2).sum(1))]
    scores, bound = QuantizedVectors(tmp_path / "c", vectors.shape).scores(worst / np.linalg.norm(worst))
    largest = np.abs(scores - vectors.astype(np.float64) @ (worst / np.linalg.norm(worst))).max()
    assert 0.9 * bound < largest <= bound


@pytest.mark.parametrize("seed", range(4))
def test_hits_equal_those_of_the_loop_for_every_k(tmp_path, seed):
    vectors = spread(260, 12, seed)
    index, query = stored(tmp_path, vectors), np.random.default_rng(seed).standard_normal(12).astype(np.float32)
    for k in (1, 2, 10, 100, 259, 260, 400):
        assert [row for row, _ in top_hits(index, [TermVector(query)], "cosine", k)] == slow_hits(vectors, query, k)


def test_near_ties_below_the_quantization_step(tmp_path):
    """Hundreds of vectors with equal codes that differ by single float32 bits, and duplicates of them."""
    rng = np.random.default_rng(5)
    base, query = unit(rng.standard_normal(24)), unit(rng.standard_normal(24))
    near = np.repeat(base[None], 400, axis=0)
    for row in range(400):
        for _ in range(rng.integers(0, 4)):
            i = rng.integers(24)
            near[row, i] = np.nextafter(near[row, i], np.float32(rng.choice([-1, 1])))
    vectors = np.concatenate([spread(200, 24, 6), near, near[::-1]])
    scores = vectors.astype(np.float64) @ (query.astype(np.float64) / np.linalg.norm(query.astype(np.float64)))
    assert 5 < len(np.unique(scores[200:])) < 800  # close, but not all equal
    unquantized = stored(tmp_path, vectors, is_quantized=False)
    expected = {k: top_hits(unquantized, [TermVector(query)], "cosine", k) for k in (1, 7, 50, 399, 700)}
    index = stored(tmp_path, vectors)
    for k, hits in expected.items():
        assert top_hits(index, [TermVector(query)], "cosine", k) == hits
        assert [row for row, _ in hits][:k] == slow_hits(vectors, query, k)


def test_weighted_terms_and_negated_queries(tmp_path):
    vectors, rng = spread(300, 10, 8), np.random.default_rng(9)
    terms = [
        TermVector(q, w) for q, w in zip(rng.standard_normal((3, 10)).astype(np.float32), (1, 0.5, -2), strict=True)
    ]
    expected = top_hits(stored(tmp_path, vectors, is_quantized=False), terms, "cosine", 20)
    assert top_hits(stored(tmp_path, vectors), terms, "cosine", 20) == expected
    negated = top_hits(stored(tmp_path, vectors), [TermVector(terms[0].vector, -1.0)], "cosine", 300)
    plain = top_hits(stored(tmp_path, vectors), [terms[0]], "cosine", 300)
    assert [row for row, _ in negated] == [row for row, _ in plain][::-1]


def test_a_search_rescores_only_a_few_rows(tmp_path, monkeypatch):
    vectors = spread(3000, 16, 10)
    index = stored(tmp_path, vectors)
    taken: list[int] = []
    (part,) = index.parts
    take = part.take
    monkeypatch.setattr(part, "take", lambda rows: taken.append(len(rows)) or take(rows))
    monkeypatch.setattr(part, "blocks", lambda *_: pytest.fail("all vectors were read"))
    hits = top_hits(index, [TermVector(vectors[5])], "cosine", 10)
    assert hits[0][0] == 5 and sum(taken) < 600


def test_order_similarity_does_not_use_quantized_vectors(tmp_path):
    vectors = np.abs(spread(200, 9, 11))
    terms = [TermVector(vectors[3])]
    expected = top_hits(stored(tmp_path, vectors, is_quantized=False), terms, "order", 10)
    assert top_hits(stored(tmp_path, vectors), terms, "order", 10) == expected


@pytest.mark.parametrize("damage", [0, 7, 30, -1])
def test_a_damaged_file_is_ignored(tmp_path, damage):
    vectors = spread(200, 9, 12)
    expected = top_hits(stored(tmp_path, vectors), [TermVector(vectors[0])], "cosine", 5)
    (file,) = (tmp_path / SEGMENTS).glob(f"*{QUANTIZED}")
    file.write_bytes(file.read_bytes()[:damage])
    with pytest.raises(BadData, match=QUANTIZED):
        QuantizedVectors(file, vectors.shape)
    part = StoredVectors(file.with_suffix(".faiss"), Layout("flat", "fp32", *vectors.shape))
    assert part.quantized is None
    index = IndexVectors(tmp_path, [Segment(int(file.stem, 16), part.layout, "")], 9)
    assert top_hits(index, [TermVector(vectors[0])], "cosine", 5) == expected


def test_a_file_of_other_vectors_is_rejected(tmp_path):
    write_quantized(tmp_path / QUANTIZED, (50, 9), spread(50, 9, 13).__getitem__)
    for shape in ((51, 9), (50, 8), (500, 9)):
        with pytest.raises(BadData, match="does not match the vectors"):
            QuantizedVectors(tmp_path / QUANTIZED, shape)
    with contextlib.suppress(OSError):
        (tmp_path / QUANTIZED).unlink()
    with pytest.raises(FileNotFoundError):
        QuantizedVectors(tmp_path / QUANTIZED, (50, 9))


def test_the_onnx_model_is_one_matmul_integer_node():
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    inputs = [
        helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", "k"]),
        helper.make_tensor_value_info("b", TensorProto.INT8, ["k", "n"]),
    ]
    result = helper.make_tensor_value_info("y", TensorProto.INT32, ["m", "n"])
    model = onnx.load_from_string(quantized._PRODUCT)
    onnx.checker.check_model(model)
    assert model.graph == helper.make_graph([node], "g", inputs, [result])
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]


def test_small_collections_are_not_quantized(tmp_path, monkeypatch):
    monkeypatch.setattr(quantized, "MIN_ELEMENTS", 200 * 9 + 1)
    vectors = spread(200, 9, 14)
    write_segment(tmp_path, Layout("flat", "fp32", *vectors.shape), vectors.__getitem__, quantize=True)
    assert [path.suffix for path in (tmp_path / SEGMENTS).iterdir()] == [".faiss"]
