"""An index of a folder of fake photos, and an embedder that computes vectors from the bytes of a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.data.scan import scan_roots
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import cell_training, merging, vector_import, writer
from xmodal_cli.retrieval.index import Index, open_index
from xmodal_cli.retrieval.metadata import IndexModel
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.update import IndexChanges, IndexRequest, update_index
from xmodal_cli.types import FeatureMeta, ImageVectors, Unreadable

DIM = 12
HALF = 2.0**-11  # the error of a number below 1 in half precision


class FakeEmbedder:
    """types.ImageVectors: bytes -> a unit vector; ``bad`` bytes are unreadable; ``paths`` records the files."""

    def __init__(self, order: bool = False) -> None:
        self.order, self.paths, self.num_calls = order, list[Path](), 0
        self.stop_after: int | None = None
        self.before_open: Callable[[Path], object] = lambda path: None

    def __call__(self, files: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        self.num_calls += 1
        for path in files:
            if self.stop_after is not None and len(self.paths) >= self.stop_after:
                raise KeyboardInterrupt
            self.paths.append(path)
            self.before_open(path)
            if not path.is_file():
                yield path, Unreadable(path, "the file does not exist")
                continue
            content = path.read_bytes()
            bad = content.startswith(b"bad")
            yield path, Unreadable(path, "it is not an image") if bad else self.vector(content)

    def vector(self, content: bytes) -> np.ndarray:
        vector = np.random.default_rng(list(content[:64])).standard_normal(DIM).astype(np.float32)
        vector = np.abs(vector) if self.order else vector
        return vector / np.linalg.norm(vector)


def index_model() -> IndexModel:
    return IndexModel("toy", "toy", "a" * 64, "cosine", DIM, FeatureMeta("b", "f", "global", 3, {"side": 8}))


class PhotoIndexFixture:
    """One index of one folder of photos."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.index_folder = folder / "photos", folder / "indexes" / "family"
        self.photos.mkdir()
        self.embedder = FakeEmbedder()
        self.num_loads = 0
        self.model = index_model()

    def add(self, name: str | bytes, content: bytes | None = None) -> Path:
        path = self.photos / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name) if content is None else content)
        return path

    def fill(self, num: int) -> None:
        for i in range(num):
            self.add(f"{i:03}.jpg")

    def update(
        self,
        *roots: Path,
        recall: float | None = None,
        rebuild: bool = False,
        remove_missing: bool = False,
        store: str | None = None,
        reporter: Reporter = SILENT,
    ) -> IndexChanges:
        photos = scan_roots(roots or (self.photos,))
        request = IndexRequest(photos, self.model, recall, rebuild, remove_missing, store=store)
        return update_index(self.index_folder, request, self._embed, reporter)

    def _embed(self) -> ImageVectors:
        self.num_loads += 1
        return self.embedder

    def open(self) -> Index:
        return open_index(self.index_folder)

    def contents(self) -> dict[str, np.ndarray]:
        """Path relative to the photo folder -> vector."""
        with self.open() as index:
            entries = list(index.items.all_items())
            vectors = index.vectors.take(index.vectors.rows_of(entries))
            return {os.path.relpath(e.item.path, self.photos): v for e, v in zip(entries, vectors, strict=True)}

    def segments(self) -> list[Path]:
        """The files of vectors, sorted."""
        return sorted((self.index_folder / SEGMENTS).glob("*.faiss"))

    def check(self) -> None:
        """Assert that the index has all readable files, in the order of paths, with the vectors of their bytes."""
        files = {p for p in self.photos.rglob("*.jpg") if not p.read_bytes().startswith(b"bad")}
        contents = self.contents()
        assert list(contents) == sorted((os.path.relpath(p, self.photos) for p in files), key=os.fsencode)
        for name, vector in contents.items():
            assert np.allclose(vector, self.embedder.vector((self.photos / name).read_bytes()), atol=HALF)


def sort_small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small indexes have cells, like large ones."""
    for module in (cell_training, vector_import):
        monkeypatch.setattr(module, "MIN_VECTORS", 8)
    for module in (writer, merging):
        monkeypatch.setattr(module, "MIN_SORTED", 4)


@pytest.fixture
def photo_index(tmp_path: Path) -> PhotoIndexFixture:
    return PhotoIndexFixture(tmp_path)


def change_counts(changes: IndexChanges) -> dict[str, int]:
    """The numbers of photos by what an update did with them, without zeros."""
    names = ("added", "updated", "moved", "removed", "unchanged")
    return {name: getattr(changes, name) for name in names if getattr(changes, name)}
