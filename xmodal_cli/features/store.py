"""A feature store: a folder with the shards ``features-NNNNN.safetensors`` and the summary ``features.json``.

``features.json`` is written last: a folder that has it is complete. torch is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import json_checksum
from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE
from xmodal_cli.errors import BadData, Category, MissingData
from xmodal_cli.features.shards import map_shard, read_shard_metadata, shard_path, verify_shard
from xmodal_cli.file_errors import reading
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.paths import write_text
from xmodal_cli.types import Defect, FeatureMeta, Features, Unreadable

SUMMARY = "features.json"
_JSON_KEYS = {"images_digest": "pictures"}  # a field that has another name in the file
FORMAT = 1  # increase it if the features of a backbone change


@dataclass(frozen=True)
class Skipped:
    """An unreadable image, and the reason."""

    image_id: str
    path: str
    error: str
    category: str = Category.DAMAGED.value
    may_change: bool = False  # see errors.BadImage

    def to_record(self) -> Unreadable:
        """The record that all commands report."""
        return Unreadable(Path(self.path), self.error, Category(self.category), self.may_change)


@dataclass(frozen=True)
class FileStamp:
    """The path, size and modification time of a file, to detect changes."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path) -> FileStamp:
        """The stamp of a file, or of the tar file that contains it; zeros if neither exists."""
        for path in (file, *file.parents):
            if path.is_file() and (size_mtime := size_and_mtime(path)):
                return cls(str(file), *size_mtime)
        return cls(str(file), 0, 0)

    def is_current(self) -> bool:
        """Whether the file is unchanged."""
        return FileStamp.of(Path(self.path)) == self


@dataclass(frozen=True)
class StoreSummary:
    """The contents of ``features.json``. ``images_digest`` identifies the image files of the features.

    ``defects`` are images that are damaged but have features: (path, reason, category). ``decoding`` is the version of
    how image files become pixels (``data/decoding.py``).
    """

    meta: FeatureMeta
    ids: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    rows_per_shard: tuple[int, ...]
    images_digest: str = ""
    weights: FileStamp | None = None
    dtype: str = "float16"
    defects: tuple[tuple[str, str, str], ...] = ()
    decoding: str = DECODING

    def defect_records(self) -> list[Defect]:
        """The records of ``defects``."""
        return [Defect(Path(path), reason, Category(category)) for path, reason, category in self.defects]


@dataclass(frozen=True)
class FeatureStore:
    """A complete store, opened for reading; its shards are memory-mapped on first use."""

    folder: Path
    summary: StoreSummary

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids, one per row."""
        return self.summary.ids

    @property
    def meta(self) -> FeatureMeta:
        """The backbone and preprocessing of the features."""
        return self.summary.meta

    @cached_property
    def shards(self) -> tuple[np.ndarray, ...]:
        """The memory maps of non-empty shards. Raises BadData for a damaged shard or one of other images."""
        maps = [map_shard(file) for file in self.files]
        found = tuple(image_id for file in self.files for image_id in read_shard_metadata(file).ids)
        if tuple(len(m) for m in maps) != self.summary.rows_per_shard or found != self.ids:
            raise BadData(f"the shards in {self.folder} do not match features.json", "extract the features again")
        return tuple(m for m in maps if len(m))

    @property
    def files(self) -> list[Path]:
        """The files of all shards."""
        return [shard_path(self.folder, n) for n in range(len(self.summary.rows_per_shard))]

    def verify(self) -> None:
        """Read all shards and compare their checksums. Raises BadData for a damaged one."""
        _ = self.shards
        for file in self.files:
            verify_shard(file)

    @property
    def dtype(self) -> np.dtype:
        """float16, or float32 if a shard has values for which float16 is not enough."""
        return np.result_type(*(shard.dtype for shard in self.shards)) if self.shards else np.dtype(np.float16)

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """(positions,) int64 -> (positions, dim) or (positions, cells, dim), in that order, copied into memory."""
        out = np.empty((len(positions), *self.shards[0].shape[1:]), dtype=self.dtype)
        start = 0
        for shard in self.shards:
            in_shard = np.flatnonzero((positions >= start) & (positions < start + len(shard)))
            out[in_shard] = shard[positions[in_shard] - start]
            start += len(shard)
        return out

    def load(self, ids: Sequence[str] | None = None) -> Features:
        """The features of ``ids`` in that order, or all, in memory. Raises BadData for an unknown id."""
        if ids is None:
            return Features(self.ids, np.concatenate(self.shards), self.meta)
        try:
            positions = np.array([self._position[i] for i in ids], dtype=np.int64)
        except KeyError as error:
            raise BadData(
                f"{self.folder} has no features of image {error.args[0]}", "extract the features of its split first"
            ) from error
        return Features(tuple(ids), self.rows(positions), self.meta)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {image_id: position for position, image_id in enumerate(self.ids)}


def is_store(folder: Path) -> bool:
    """Whether ``folder`` has a store, or a part of one that is not complete."""
    return (folder / SUMMARY).is_file() or shard_path(folder, 0).is_file()


def open_store(folder: Path) -> FeatureStore:
    """Open a complete store. Raises MissingData if there is none, BadData if it is damaged."""
    file = folder / SUMMARY
    if not file.is_file():
        raise MissingData(f"{folder} has no complete features", "extract them with `xmodal features DATA --out DIR`")
    with reading(file, "delete it and extract the features again"):
        return FeatureStore(folder, _summary_from(json_checksum.parse(file.read_bytes())))


def open_features(folder: Path) -> Features:
    """All features of a store: a memory map if it has one shard, else in memory.

    Use ``open_store(folder).rows(...)`` for a store that is larger than memory.
    """
    store = open_store(folder)
    if len(store.shards) == 1:
        return Features(store.ids, store.shards[0], store.meta)
    return store.load()


def write_summary(folder: Path, summary: StoreSummary) -> None:
    """Write ``features.json``, which makes the store complete. Raises StorageError."""
    data = {_JSON_KEYS.get(name, name): value for name, value in asdict(summary).items()}
    write_text(folder / SUMMARY, json_checksum.to_text({"format": FORMAT, **data}, indent=1) + "\n")


def _summary_from(data: dict[str, Any]) -> StoreSummary:
    if data["format"] != FORMAT:
        raise ValueError(f"format {data['format']} is not {FORMAT}")
    ids, rows = data["ids"], data["rows_per_shard"]
    if not isinstance(ids, list) or not all(isinstance(image_id, str) for image_id in ids):
        raise ValueError("its ids are not a list of names")
    if not isinstance(rows, list) or not all(type(count) is int and count >= 0 for count in rows):
        raise ValueError("its rows_per_shard is not a list of numbers")
    if sum(rows) != len(ids):
        raise ValueError(f"it has {len(ids)} ids for {sum(rows)} rows")
    meta = FeatureMeta(**data["meta"])
    if not all(isinstance(name, str) for name in (meta.backbone, meta.fingerprint, meta.kind)):
        raise ValueError("its meta is not that of a backbone")
    if type(meta.dim) is not int or type(meta.crops) is not int or not isinstance(meta.preprocessing, dict):
        raise ValueError("its meta is not that of a backbone")
    return StoreSummary(
        meta=meta,
        ids=tuple(data["ids"]),
        skipped=tuple(Skipped(**entry) for entry in data["skipped"]),
        rows_per_shard=tuple(data["rows_per_shard"]),
        images_digest=data[_JSON_KEYS["images_digest"]],
        weights=FileStamp(**data["weights"]) if data["weights"] else None,
        dtype=data.get("dtype", "float16"),
        defects=tuple((str(p), str(r), str(c)) for p, r, c in data.get("defects", ())),
        decoding=str(data.get("decoding", DECODING_BEFORE)),
    )
