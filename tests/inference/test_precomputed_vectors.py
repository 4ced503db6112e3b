"""Precomputed vectors: read, imported, searched and exported again; damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.index_fixtures import sort_small_segments
from PIL import Image
from safetensors.numpy import save_file

from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.inference.precomputed_vectors import index_vectors
from xmodal_cli.paths import indexes_dir
from xmodal_cli.recipes.search import open_searcher
from xmodal_cli.retrieval import vector_export, vector_import
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.query import parse_query
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.selection import photo_condition
from xmodal_cli.retrieval.vector_export import export_index
from xmodal_cli.retrieval.vector_files import find_vector_files
from xmodal_cli.retrieval.vector_import import VectorSource

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

DIM = 16


def _vectors(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num, DIM)).astype(np.float32)


def _write(folder: Path, parts: list[np.ndarray], rows: list[list[dict[str, Any]]] | None = None) -> Path:
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for i, part in enumerate(parts):
        np.save(folder / "img_emb" / f"img_emb_{i}.npy", part)
        if rows is not None:
            text = "".join(json.dumps(row) + "\n" for row in rows[i])
            (folder / "metadata" / f"metadata_{i}.jsonl").write_text(text)
    return folder


def _rows(start: int, num: int) -> list[dict[str, Any]]:
    return [{"image_path": f"/far/{n:04}.jpg", "caption": f"photo {n}"} for n in range(start, start + num)]


def _top(folder: str, vector: np.ndarray, k: int = 10) -> list[str]:
    with open_index(Path(folder)) as index:
        rows = [row for row, _ in top_hits(index.vectors, [TermVector(vector)], "cosine", k)]
        found = []
        for row in rows:
            ((key, positions),) = index.vectors.by_segment([row]).items()
            found.append(index.items.of_vectors(key, positions)[0].item.path)
        return found


@pytest.mark.parametrize("is_sorted", [False, True])
def test_imported_vectors_are_searched_as_by_brute_force(
    tmp_path: Path, is_sorted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_import, "LARGEST", 100)  # several segments, which end within files
    if is_sorted:
        sort_small_segments(monkeypatch)
    parts = [_vectors(130), _vectors(0), _vectors(120, 1).astype(np.float16)]
    source = _write(tmp_path / "clip", parts, [_rows(0, 130), [], _rows(130, 120)])
    found = index_vectors(source, "clip")
    assert (found.vectors, found.photos, found.model, found.index) == (250, 250, "", "clip")
    assert (found.calibration is not None) == is_sorted
    everything = np.concatenate(parts).astype(np.float32)
    unit = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    for query in _vectors(5, 2):
        expected = [f"/far/{n:04}.jpg" for n in np.argsort(-(unit @ query))[:10]]
        assert _top(found.folder, query) == expected
    with open_index(Path(found.folder)) as index:
        assert [c for _, texts in index.items.with_captions(100) for c in texts] == [f"photo {n}" for n in range(250)]
    with open_searcher("clip") as searcher, pytest.raises(MissingData, match="vectors of an unknown model"):
        searcher.search(["a dog"])


def test_photos_cannot_be_added_to_vectors_of_an_unknown_model(tmp_path: Path) -> None:
    """Deleting photos needs no model; embedding them does, and the error names what is unknown."""
    from xmodal_cli.recipes.index import index

    index_vectors(_write(tmp_path / "clip", [_vectors(30)], [_rows(0, 30)]), "clip")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "a.png")
    with pytest.raises(MissingData, match="vectors of an unknown model, which cannot encode photos"):
        index([tmp_path / "photos"], "clip")


def test_the_recall_is_measured_on_the_vectors_of_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sort_small_segments(monkeypatch)
    source = _write(tmp_path / "clip", [_vectors(400)])
    assert index_vectors(source, "clip").calibration.queries == "photos"
    (source / "text_emb").mkdir()
    np.save(source / "text_emb" / "text_emb_0.npy", _vectors(400, 5))
    assert index_vectors(source, "clip", rebuild=True).calibration.queries == "sentences"


def test_hits_need_no_files(tmp_path: Path) -> None:
    from xmodal_cli.retrieval.top_photos import TopPhotos

    found = index_vectors(_write(tmp_path / "clip", [_vectors(30)], [_rows(0, 30)]), "clip")
    with open_index(Path(found.folder)) as index:
        top = TopPhotos(index, [TermVector(_vectors(1)[0], is_text=False)], SearchOptions(5))
    assert len(top.photos) == 5
    assert (top.photos[0].item.path, top.num_vanished) == ("/far/0000.jpg", 0)


def test_of_several_vectors_with_one_path_the_first_is_searched(tmp_path: Path) -> None:
    rows = [{"url": f"https://a/{n % 7}.jpg"} for n in range(20)]
    found = index_vectors(_write(tmp_path / "clip", [_vectors(20)], [rows]), "clip")
    assert (found.vectors, found.photos) == (20, 7)
    assert _top(found.folder, _vectors(20)[9], 20)[0] != ""
    assert len(_top(found.folder, _vectors(1)[0], 20)) == 7


def test_an_index_is_replaced_only_with_rebuild(tmp_path: Path) -> None:
    source = _write(tmp_path / "clip", [_vectors(20)])
    index_vectors(source, "clip")
    with pytest.raises(ConfigError, match="the index 'clip' already exists") as error:
        index_vectors(source, "clip")
    assert "--rebuild" in error.value.hint
    other = _write(tmp_path / "other", [_vectors(5, 3)])
    assert index_vectors(other, "clip", rebuild=True).photos == 5


def test_imported_captions_are_found(tmp_path: Path) -> None:
    rows = [[{"path": f"{n}.jpg", "caption": f"photo {n}"} for n in range(20)]]
    source = _write(tmp_path / "clip", [_vectors(20)], rows)
    other = _write(tmp_path / "other", [_vectors(20, 1)], [[{"path": f"{n}.jpg"} for n in range(20)]])
    index_vectors(source, "clip")
    for folder, expected in ((source, ["7.jpg"]), (other, []), (source, ["7.jpg"])):
        index_vectors(folder, "clip", rebuild=True)
        with open_index(indexes_dir() / "clip") as index:
            assert index.items.has_captions() == bool(expected)
            if expected:
                condition = photo_condition(index, parse_query(["caption:7"], SearchOptions()), tmp_path)
                assert condition is not None
                assert [entry.item.path for entry in index.items.newest(condition)] == expected


def test_vectors_of_extreme_length_are_normalized(tmp_path: Path) -> None:
    scales = np.array([1e-30, 1.0, 1e30, 3e37, 1e-38])[:, None].astype(np.float32)
    source = _write(tmp_path / "clip", [_vectors(5) * scales])
    unit = _vectors(5) / np.linalg.norm(_vectors(5), axis=1, keepdims=True)
    matrix = VectorSource(find_vector_files(source), normalize=True)
    np.testing.assert_allclose(matrix.take(np.arange(5)), unit, atol=1e-5)


def test_captions_of_another_model_are_refused_before_the_import(tmp_path: Path) -> None:
    source = _write(tmp_path / "clip", [_vectors(20)])
    (source / "text_emb").mkdir()
    np.save(source / "text_emb" / "text_emb_0.npy", np.ones((3, DIM + 1), np.float32))
    with pytest.raises(BadData, match=f"have size {DIM + 1}, those of images {DIM}"):
        index_vectors(source, "clip")
    with pytest.raises(MissingData):
        open_index(indexes_dir() / "clip")


def test_photos_are_added_to_imported_vectors(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    source = _write(tmp_path / "clip", [np.random.default_rng(0).standard_normal((30, 12))])
    files = find_vector_files(source)
    vector_import.import_vectors(photo_index.index_folder, source, files, photo_index.model)
    photo_index.fill(3)
    changes = photo_index.update()
    assert (changes.added, changes.removed, changes.metadata.num_items) == (3, 0, 33)
    assert changes.metadata.vectors == str(source)


@pytest.mark.parametrize("target", ["out", "out.parquet", "out.jsonl"])
def test_exported_vectors_are_those_of_the_index(tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_export, "FILE_ROWS", 20)
    monkeypatch.setattr(vector_export, "_ROWS", 7)
    source = _write(tmp_path / "clip", [_vectors(50)], [_rows(0, 50)])
    found, out = index_vectors(source, "clip"), tmp_path / "to" / target
    if out.suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with open_index(Path(found.folder)) as index:
        result = export_index(index, "clip", out)
        assert (result.photos, result.dim, result.dtype) == (50, DIM, "float16")
        with pytest.raises(ConfigError, match="already exists"):
            export_index(index, "clip", out)
        with pytest.raises(ConfigError, match="unknown format"):
            export_index(index, "clip", tmp_path / "a.csv")
    unit = _vectors(50) / np.linalg.norm(_vectors(50), axis=1, keepdims=True)
    if target == "out":
        assert len(list((out / "img_emb").iterdir())) == 3
        again = index_vectors(out, "again")
        for query in _vectors(3, 9):
            assert _top(again.folder, query) == _top(found.folder, query)
        return
    if target == "out.jsonl":
        points = [json.loads(line) for line in out.read_text().splitlines()]
        assert [p["id"] for p in points] == list(range(50))
        paths, captions = ([p["payload"][key] for p in points] for key in ("path", "caption"))
        vectors = np.array([p["vector"] for p in points])
    else:
        from pyarrow import parquet

        table = parquet.read_table(out).to_pydict()
        paths, captions, vectors = table["path"], table["caption"], np.array(table["vector"], np.float32)
    assert paths == [row["image_path"] for row in _rows(0, 50)]
    assert captions == [row["caption"] for row in _rows(0, 50)]
    assert np.allclose(vectors, unit, atol=1e-3)


def test_metadata_in_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    source = _write(tmp_path / "clip", [_vectors(20)])
    table = pyarrow.Table.from_pylist(_rows(0, 20))
    parquet.write_table(table, source / "metadata" / "metadata_0.parquet")
    found = index_vectors(source, "clip")
    assert _top(found.folder, _vectors(20)[4])[0] == "/far/0004.jpg"


def test_safetensors_and_names_without_metadata(tmp_path: Path) -> None:
    arrays = {"texts": _vectors(5), "images": _vectors(20)}
    save_file(arrays, tmp_path / "b.safetensors")
    (file,) = find_vector_files(tmp_path)
    assert np.array_equal(VectorSource([file], False).take(np.array([0, 1, 7])), _vectors(20)[[0, 1, 7]])
    assert [path for path, _ in file.photos()][19] == f"{tmp_path / 'b.safetensors'}#19"


def test_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    source = _write(tmp_path / "clip", [np.full((1, DIM), float(n)) for n in range(12)])
    matrix = VectorSource(find_vector_files(source), normalize=False)
    assert matrix.take(np.arange(12))[:, 0].tolist() == list(range(12))


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    def check(name: str, match: str, **kwargs: Any) -> None:
        source = _write(tmp_path / name, **kwargs)
        with pytest.raises(BadData, match=match):
            index_vectors(source, name)
        with pytest.raises(MissingData):  # nothing half-written
            open_index(indexes_dir() / name)

    good, bad = _vectors(9), _vectors(9)
    bad[4, 3] = np.nan
    check("nan", "not finite, in row 4", parts=[bad])
    check("large", "not finite, in row 0", parts=[np.full((9, DIM), 1e300)])
    check("zero", "a zero vector, in row 2", parts=[np.where(np.arange(9)[:, None] == 2, 0, good)])
    check("dims", "of size 5", parts=[good, good[:, :5]])
    check("shape", "not a matrix of numbers", parts=[good[0]])
    check("whole", "not a matrix of numbers", parts=[np.ones((3, 4), np.int32)])
    check("short", "has 8 rows, but .* 9 vectors", parts=[good], rows=[_rows(0, 8)])
    check("long", "has 10 rows, but .* 9 vectors", parts=[good], rows=[_rows(0, 10)])
    check("middle", "has 10 rows, but .* 9 vectors", parts=[good, good], rows=[_rows(0, 10), _rows(10, 9)])
    check("names", "has no path in row 1", parts=[good], rows=[[{"caption": "a"}] * 9])
    source = _write(tmp_path / "cut", [good])
    file = source / "img_emb" / "img_emb_0.npy"
    for content in (b"", file.read_bytes()[:60], file.read_bytes()[:-1], b"junk" * 100):
        file.write_bytes(content)
        with pytest.raises(BadData, match="cannot be read as vectors"):
            index_vectors(source, "cut")
    with pytest.raises(MissingData):
        index_vectors(tmp_path / "none", "none")
