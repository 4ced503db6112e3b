"""Indexes that were built in parts and joined: the same photos, hits and scores as in an index of all of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.index_fixtures import FakeEmbedder, change_counts, index_model, sort_small_segments
from PIL import Image

from xmodal_cli.data.scan import scan_roots
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures, MissingData
from xmodal_cli.reporter import SILENT
from xmodal_cli.retrieval import index_commit
from xmodal_cli.retrieval.database import ITEMS, connect_writer
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.index_commit import CommitCounts, commit_indexes
from xmodal_cli.retrieval.integrity import check_index
from xmodal_cli.retrieval.item_captions import CaptionWriter, NewCaption
from xmodal_cli.retrieval.items import Item
from xmodal_cli.retrieval.metadata import IndexMetadata
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.top_photos import TopPhotos
from xmodal_cli.retrieval.update import IndexChanges, IndexRequest, update_index

NUM_PARTS = 4


class Parts:
    """Folders ``0`` to ``3`` of photos, an index of each in ``part-0`` and so on, and indexes of all of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.embedder = FakeEmbedder()
        for part in range(NUM_PARTS):
            for number in range(6):
                self.add(part, f"{part}{number}.jpg")
        self.add(0, "copy.jpg", b"the same bytes")
        self.add(2, "deep/copy.jpg", b"the same bytes")
        self.add(3, "again.jpg", b"the same bytes")
        self.add(1, "bad.jpg", b"bad bytes")
        Image.new("RGB", (30, 20)).save(self.base / "1" / "real.png")

    def add(self, part: int, name: str, content: bytes | None = None) -> Path:
        path = self.base / str(part) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() if content is None else content)
        return path

    def build(self, name: str, *roots: Path, **settings: Any) -> IndexChanges:
        """Build or update the index ``name`` of ``roots``."""
        request = IndexRequest(scan_roots(roots, settings.get("exclude", ())), **{"model": index_model(), **settings})
        return update_index(self.base / name, request, lambda: self.embedder, SILENT)

    def build_parts(self, **settings: Any) -> list[Path]:
        for part in range(NUM_PARTS):
            self.build(f"part-{part}", self.base / str(part), **settings)
        return [self.base / f"part-{part}" for part in range(NUM_PARTS)]

    def commit(self, sources: Sequence[Path], name: str = "joined", **more: Any) -> tuple[IndexMetadata, CommitCounts]:
        found = commit_indexes(self.base / name, sources, **more)
        check_index(self.base / name)
        return found

    def contents(self, name: str) -> dict[str, tuple[Item, bytes]]:
        with open_index(self.base / name) as index:
            entries = list(index.items.all_items())
            vectors = index.vectors.take(index.vectors.rows_of(entries))
            return {e.item.path: (e.item, v.tobytes()) for e, v in zip(entries, vectors, strict=True)}

    def hits(self, name: str) -> list[list[tuple[str, float, int]]]:
        """The 10 best photos of 20 queries, with scores and numbers of copies."""
        rng = np.random.default_rng(1)
        queries = rng.standard_normal((20, 12)).astype(np.float32)
        with open_index(self.base / name) as index:
            found = [TopPhotos(index, [TermVector(query)], SearchOptions(10, exact=True)).photos for query in queries]
        return [[(photo.item.path, photo.score, photo.duplicates) for photo in photos] for photos in found]

    def files(self, name: str) -> dict[str, bytes]:
        folder = self.base / name
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


@pytest.mark.parametrize("is_large", [False, True])
def test_the_joined_index_is_that_of_one_machine(parts: Parts, monkeypatch: pytest.MonkeyPatch, is_large: bool) -> None:
    if is_large:  # sorted segments, several per source
        sort_small_segments(monkeypatch)
        monkeypatch.setattr(index_commit, "SEGMENT", 3)
        monkeypatch.setattr(index_commit, "_BLOCK", 2)
    sources = parts.build_parts()
    parts.build("whole", *(parts.base / str(part) for part in range(NUM_PARTS)))
    parts.embedder.paths.clear()
    metadata, counts = parts.commit(sources)
    assert counts == CommitCounts(added=28, vectors=26)
    assert parts.contents("joined") == parts.contents("whole")
    assert parts.hits("joined") == parts.hits("whole")
    for name in ("roots", "num_items", "num_unreadable", "exclude", "decoding", "store", "recall", "model"):
        assert getattr(metadata, name) == getattr(read_metadata(parts.base / "whole"), name)
    assert metadata == read_metadata(parts.base / "joined") and metadata.num_items == 28
    changes = parts.build("joined", *(parts.base / str(part) for part in range(NUM_PARTS)))
    assert change_counts(changes) == {"unchanged": 28}
    assert not parts.embedder.paths  # no photo is read again


def test_a_repeated_commit_writes_nothing(parts: Parts) -> None:
    sources = parts.build_parts()
    parts.commit(sources)
    before = parts.files("joined")
    _, counts = parts.commit(sources)
    assert counts == CommitCounts(unchanged=28)
    assert parts.files("joined") == before


def test_parts_that_were_updated_are_committed_again(parts: Parts) -> None:
    sources = parts.build_parts()
    parts.commit(sources[:2])
    parts.commit(sources[2:])
    os.utime(parts.add(1, "10.jpg", b"other bytes"), ns=(2 * 10**18, 2 * 10**18))
    parts.add(1, "new.jpg")
    parts.build("part-1", parts.base / "1")
    _, counts = parts.commit(sources[1:2])
    assert counts == CommitCounts(added=1, updated=1, unchanged=7 - 1, vectors=2)
    parts.build("whole", *(parts.base / str(part) for part in range(NUM_PARTS)))
    assert parts.contents("joined") == parts.contents("whole")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_photos_with_one_path_the_latest_is_kept(parts: Parts, order: tuple[int, int]) -> None:
    path = parts.add(0, "00.jpg", b"early")
    os.utime(path, ns=(10**18, 10**18))
    parts.build("part-0", parts.base / "0")
    path.write_bytes(b"late")
    os.utime(path, ns=(2 * 10**18, 2 * 10**18))
    parts.build("part-1", parts.base / "0")
    _, counts = parts.commit([parts.base / f"part-{number}" for number in order])
    assert (counts.added, counts.updated, counts.unchanged) == (7, int(order == (0, 1)), 7 - int(order == (0, 1)))
    assert parts.contents("joined") == parts.contents("part-1")
    _, counts = parts.commit([parts.base / "part-0"])
    assert counts == CommitCounts(unchanged=7)
    assert parts.contents("joined") == parts.contents("part-1")


def test_files_that_could_not_be_read(parts: Parts) -> None:
    sources = parts.build_parts()
    parts.commit(sources)
    bad = str(parts.base / "1" / "bad.jpg")
    with open_index(parts.base / "joined") as index:
        assert [file.path for file in index.items.unreadable()] == [bad]
    os.utime(parts.add(1, "bad.jpg", b"good"), ns=(2 * 10**18, 2 * 10**18))
    parts.build("part-1", parts.base / "1")
    parts.commit(sources)
    with open_index(parts.base / "joined") as index:
        assert index.items.unreadable() == []
    assert bad in parts.contents("joined")


def test_an_interrupted_commit_leaves_the_index_as_it_was(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = parts.build_parts()
    parts.commit(sources[:1])
    before, calls = parts.files("joined"), []
    copy_captions = index_commit._copy_captions

    def interrupt(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        copy_captions(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(index_commit, "_copy_captions", interrupt)
        with pytest.raises(KeyboardInterrupt):
            parts.commit(sources[1:])
    after = parts.files("joined")
    assert {name: after[name] for name in before if name != ITEMS} == {n: b for n, b in before.items() if n != ITEMS}
    assert set(after) == set(before)
    assert parts.contents("joined") == parts.contents("part-0")
    parts.commit(sources[1:])
    assert len(parts.contents("joined")) == 28


def test_captions_by_the_same_model_are_copied(parts: Parts) -> None:
    sources = parts.build_parts()
    for part, captioner in enumerate(("m", "m", "other")):
        writer = CaptionWriter(sources[part], SILENT)
        pending, _ = writer.prepare(captioner)
        writer.write([NewCaption(photo.digest, f"photo {photo.path.name}", ("a", "b")) for photo in pending])
    warnings: list[str] = []
    reporter = type("Warnings", (type(SILENT),), {"warn": lambda self, text: warnings.append(text)})()
    parts.commit(sources, reporter=reporter)
    assert [str(sources[2]) in text for text in warnings] == [True]
    with open_index(parts.base / "joined") as index:
        texts = dict(zip(*_paths_and_captions(index), strict=True))
        assert index.items.captioner() == json.dumps("m")
    for path, text in texts.items():
        part = Path(path).relative_to(parts.base).parts[0]
        is_copy = Path(path).read_bytes() == b"the same bytes"
        assert text == ("photo copy.jpg" if is_copy else f"photo {Path(path).name}" if part in "01" else None)
    before = parts.files("joined")
    parts.commit(sources)
    assert parts.files("joined") == before


def _paths_and_captions(index: Any) -> tuple[list[str], list[str | None]]:
    ((entries, captions),) = index.items.with_captions(1000)
    return [entry.item.path for entry in entries], captions


def test_patterns_that_only_some_exclude_are_not_stored(parts: Parts) -> None:
    folders = [parts.base / "part-0", parts.base / "part-1"]
    for number, pattern in enumerate(("*5.jpg", "*4.jpg")):
        parts.build(f"part-{number}", parts.base / str(number), exclude=("*0.jpg", pattern))
    warnings: list[str] = []
    reporter = type("Warnings", (type(SILENT),), {"warn": lambda self, text: warnings.append(text)})()
    metadata, _ = parts.commit(folders, reporter=reporter)
    assert metadata.exclude == ("*0.jpg",)
    assert len(warnings) == 1 and "*5.jpg, *4.jpg" in warnings[0]


def test_indexes_of_different_models(parts: Parts) -> None:
    sources = parts.build_parts()
    other = replace(index_model(), fingerprint="b" * 64, name="other")
    parts.build("part-3", parts.base / "3", model=other, rebuild=True)
    with pytest.raises(IncompatibleFeatures, match=r"part-0 has the model toy .*part-3 has other \(bbbbbbbb\)"):
        parts.commit(sources)
    with pytest.raises(IncompatibleFeatures, match="--model has other"):
        parts.commit(sources[:2], model=other)
    assert not (parts.base / "joined").exists()
    metadata, _ = parts.commit(sources[:2], model=replace(index_model(), source="/here/toy"))
    assert metadata.model.source == "/here/toy"
    with pytest.raises(IncompatibleFeatures, match="joined has the model toy"):
        parts.commit(sources[3:])


def test_damage_is_found_before_anything_is_written(parts: Parts) -> None:
    sources = parts.build_parts()
    (segment,) = (sources[2] / SEGMENTS).iterdir()
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    with pytest.raises(BadData, match="its checksum is wrong"):
        parts.commit(sources)
    assert not (parts.base / "joined").exists()
    shutil.rmtree(sources[2] / SEGMENTS)
    with pytest.raises(BadData, match="part-2 is incomplete"):
        parts.commit(sources)


def test_a_source_that_changes_meanwhile(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = parts.build_parts()

    def prepare(*arguments: Any) -> Any:
        parts.add(3, "late.jpg")
        parts.build("part-3", parts.base / "3")
        return original(*arguments)

    original = index_commit._prepare
    monkeypatch.setattr(index_commit, "_prepare", prepare)
    with pytest.raises(BadData, match="part-3 is being updated"):
        parts.commit(sources)
    monkeypatch.undo()
    parts.commit(sources)
    assert len(parts.contents("joined")) == 29


def test_precisions(parts: Parts) -> None:
    exact = parts.build_parts(store="fp32")
    assert parts.commit(exact)[0].store == "fp32"
    assert parts.contents("joined") == {p: c for f in exact for p, c in parts.contents(f.name).items()}
    parts.build("half", parts.base / "0")
    with pytest.raises(ConfigError, match="half has vectors in half precision"):
        parts.commit([parts.base / "half"])
    assert parts.commit([parts.base / "half", *exact[1:]], "mixed")[0].store == "fp16"


def test_indexes_that_cannot_be_committed(parts: Parts) -> None:
    sources = parts.build_parts()
    with pytest.raises(ConfigError, match="into itself"):
        commit_indexes(sources[0], sources)
    with pytest.raises(MissingData, match="there is no index at"):
        parts.commit([parts.base / "none"])
    with connect_writer(sources[0] / ITEMS) as database:
        database.execute("DELETE FROM items WHERE id = (SELECT min(id) FROM items)")
    with pytest.raises(BadData, match="part-0"):
        parts.commit(sources)
    assert not (parts.base / "joined").exists()
