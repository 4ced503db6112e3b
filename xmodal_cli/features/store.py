"""A folder of features: ``features-00000.safetensors`` and on, and ``features.json`` which says what they are.

``features.json`` is written last: a folder that has it is complete. Nothing here needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.features.shards import map_shard, shard_path
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.paths import write_text
from xmodal_cli.types import FeatureMeta, Features

SUMMARY = "features.json"
FORMAT = 1  # to be raised when features that the same backbone makes would change


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and why."""

    image_id: str
    path: str
    error: str


@dataclass(frozen=True)
class FileStamp:
    """A file's path, size and time of change: enough to tell that it is still the same."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path) -> FileStamp:
        """The stamp of a file, or of the tar file it is in; zeros where there is none."""
        for place in (file, *file.parents):
            if place.is_file() and (found := size_and_mtime(place)):
                return cls(str(file), *found)
        return cls(str(file), 0, 0)

    def holds(self) -> bool:
        """Whether the file is still as it was."""
        return FileStamp.of(Path(self.path)) == self


@dataclass(frozen=True)
class StoreSummary:
    """What ``features.json`` says. ``pictures`` is a digest of the files that the features were made of."""

    meta: FeatureMeta
    ids: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    rows_per_shard: tuple[int, ...]
    pictures: str = ""
    weights: FileStamp | None = None


@dataclass(frozen=True)
class FeatureStore:
    """A complete store, open for reading; its shards are memory-mapped when first touched."""

    folder: Path
    summary: StoreSummary

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids, one per row."""
        return self.summary.ids

    @property
    def meta(self) -> FeatureMeta:
        """What made the features."""
        return self.summary.meta

    @cached_property
    def shards(self) -> tuple[np.ndarray, ...]:
        """The memory maps, without empty ones. Raises BadData for a shard that is damaged or of another length."""
        maps = [map_shard(shard_path(self.folder, n)) for n in range(len(self.summary.rows_per_shard))]
        if tuple(len(m) for m in maps) != self.summary.rows_per_shard:
            raise BadData(f"the feature files in {self.folder} do not belong together", "run `xmodal features` again")
        return tuple(m for m in maps if len(m))

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """(positions,) int64 -> (positions, dim) or (positions, cells, dim) fp16, copied into memory in that order."""
        out = np.empty((len(positions), *self.shards[0].shape[1:]), dtype=np.float16)
        start = 0
        for shard in self.shards:
            inside = np.flatnonzero((positions >= start) & (positions < start + len(shard)))
            out[inside] = shard[positions[inside] - start]
            start += len(shard)
        return out

    def load(self, ids: Sequence[str] | None = None) -> Features:
        """The features of ``ids`` in that order, or of all, in memory. Raises BadData for an id that is not here."""
        if ids is None:
            return Features(self.ids, np.concatenate(self.shards), self.meta)
        try:
            positions = np.array([self._position[i] for i in ids], dtype=np.int64)
        except KeyError as error:
            raise BadData(
                f"{self.folder} has no features of image {error.args[0]}", "extract the features of that split first"
            ) from error
        return Features(tuple(ids), self.rows(positions), self.meta)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {image_id: position for position, image_id in enumerate(self.ids)}


def open_store(folder: Path) -> FeatureStore:
    """A complete store. Raises MissingData where there is none, BadData where it is damaged."""
    file = folder / SUMMARY
    if not file.is_file():
        raise MissingData(f"{folder} holds no complete features", "make them with `xmodal features DATA --out DIR`")
    try:
        tables = json.loads(file.read_text(encoding="utf-8"))
        return FeatureStore(folder, _summary_from(tables))
    except (ValueError, KeyError, TypeError) as error:
        raise BadData(f"{file} cannot be read: {error}", "remove it and run `xmodal features` again") from error


def open_features(folder: Path) -> Features:
    """All features of a store: a memory map where it has one shard, in memory where it has more.

    ``open_store(folder).rows(...)`` reads a part of a store that is larger than memory.
    """
    store = open_store(folder)
    if len(store.shards) == 1:
        return Features(store.ids, store.shards[0], store.meta)
    return store.load()


def write_summary(folder: Path, summary: StoreSummary) -> None:
    """Write ``features.json``, which makes the store complete."""
    write_text(folder / SUMMARY, json.dumps({"format": FORMAT, **asdict(summary)}, indent=1) + "\n")


def _summary_from(tables: dict[str, Any]) -> StoreSummary:
    if tables["format"] != FORMAT:
        raise ValueError(f"format {tables['format']} is not {FORMAT}")
    return StoreSummary(
        meta=FeatureMeta(**tables["meta"]),
        ids=tuple(tables["ids"]),
        skipped=tuple(Skipped(**entry) for entry in tables["skipped"]),
        rows_per_shard=tuple(tables["rows_per_shard"]),
        pictures=tables["pictures"],
        weights=FileStamp(**tables["weights"]) if tables["weights"] else None,
    )
