"""Brings a feature store up to date: extracts what is missing, shard by shard, and nothing twice.

A shard holds a fixed run of pictures and carries a digest of what it was made of, so that a run
that was killed goes on with the first shard that is not there. Knows nothing of backbones and torch:
it is given what turns files into vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData, XmodalError
from xmodal_cli.features.shards import ShardNote, read_note, shard_path, write_shard
from xmodal_cli.features.store import (
    FORMAT,
    SUMMARY,
    FeatureStore,
    FileStamp,
    Skipped,
    StoreSummary,
    open_store,
    write_summary,
)
from xmodal_cli.types import FeatureMeta, Unreadable

# a types.ImageVectors that is given all its files at once
Encode = Callable[[Sequence[Path]], Iterator[tuple[Path, np.ndarray | Unreadable]]]

SHARD_ROWS = {"global": 1024}  # a few seconds' to a minute's work, 2 to 50 MB
SHARD_ROWS_OF_CELLS = 128
_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class ImageToExtract:
    """One picture of a store to be."""

    image_id: str
    stamp: FileStamp


@dataclass(frozen=True)
class ExtractionPlan:
    """What a store is to hold: all of ``pictures``, by the backbone that ``meta`` describes."""

    pictures: tuple[ImageToExtract, ...]
    meta: FeatureMeta
    weights: FileStamp | None

    @property
    def runs(self) -> list[tuple[ImageToExtract, ...]]:
        """The pictures of each shard."""
        rows = SHARD_ROWS.get(self.meta.kind, SHARD_ROWS_OF_CELLS)
        return [self.pictures[start : start + rows] for start in range(0, len(self.pictures), rows)]


def digest_of(pictures: Sequence[ImageToExtract], meta: FeatureMeta | None = None) -> str:
    """sha256 over ids, paths, sizes and times of change, and over what made the features."""
    digest = hashlib.sha256(json.dumps([FORMAT, meta and asdict(meta)], sort_keys=True).encode())
    for picture in pictures:
        stamp = picture.stamp
        line = f"\0{picture.image_id}\0{stamp.path}\0{stamp.size}\0{stamp.mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def find_complete(
    folder: Path, pictures: Sequence[ImageToExtract], backbone: str, kind: str, crops: int
) -> FeatureStore | None:
    """The store in ``folder`` if it holds exactly these pictures' features by that backbone; reads no weights."""
    try:
        store = open_store(folder)
        summary, meta = store.summary, store.meta
        same_backbone = (meta.backbone, meta.kind, meta.crops) == (backbone, kind, crops)
        if not same_backbone or summary.weights is None or not summary.weights.holds():
            return None
        if summary.pictures != digest_of(pictures):
            return None
        return store if store.shards else None  # opening them checks their sizes
    except XmodalError:
        return None


def fill_store(folder: Path, plan: ExtractionPlan, encode: Encode, advance: Callable[[int], None]) -> FeatureStore:
    """Make the store in ``folder`` hold what ``plan`` says, and open it.

    ``encode`` turns files into features in order; ``advance`` is told of pictures done, those found
    done included. Raises BadData when no picture could be read, StorageError.
    """
    notes = [_kept_note(shard_path(folder, n), run, plan.meta) for n, run in enumerate(plan.runs)]
    missing = [n for n, note in enumerate(notes) if note is None]
    if missing:
        (folder / SUMMARY).unlink(missing_ok=True)
    advance(len(plan.pictures) - sum(len(plan.runs[n]) for n in missing))
    # one stream over all that is missing, so that decoding never waits for a shard to be written
    vectors = encode([Path(p.stamp.path) for n in missing for p in plan.runs[n]])
    for n in missing:
        notes[n] = _write_run(shard_path(folder, n), plan.runs[n], plan.meta, vectors, advance)
    _remove_beyond(folder, len(notes))
    return _complete(folder, plan, [note for note in notes if note is not None])


def _kept_note(file: Path, run: tuple[ImageToExtract, ...], meta: FeatureMeta) -> ShardNote | None:
    """The note of a shard that is whole and made of this very run, else None."""
    with contextlib.suppress(BadData):
        note = read_note(file)
        if note.plan == digest_of(run, meta):
            return note
    return None


def _write_run(
    file: Path,
    run: tuple[ImageToExtract, ...],
    meta: FeatureMeta,
    vectors: Iterator[tuple[Path, np.ndarray | Unreadable]],
    advance: Callable[[int], None],
) -> ShardNote:
    rows: list[np.ndarray] = []
    ids: list[str] = []
    skipped: list[tuple[str, str, str]] = []
    for picture, (path, vector) in zip(run, vectors, strict=False):  # the stream goes on after the run
        if isinstance(vector, Unreadable):
            skipped.append((picture.image_id, str(path), vector.reason))
        else:
            ids.append(picture.image_id)
            rows.append(np.clip(vector, -_LARGEST, _LARGEST).astype(np.float16))
        advance(1)
    note = ShardNote(digest_of(run, meta), tuple(ids), tuple(skipped))
    write_shard(file, rows, note)
    return note


def _remove_beyond(folder: Path, count: int) -> None:
    """Remove shards of a larger store that was here before."""
    while shard_path(folder, count).exists():
        shard_path(folder, count).unlink()
        count += 1


def _complete(folder: Path, plan: ExtractionPlan, notes: list[ShardNote]) -> FeatureStore:
    skipped = tuple(Skipped(*entry) for note in notes for entry in note.skipped)
    ids = tuple(image_id for note in notes for image_id in note.ids)
    if not ids:
        raise BadData(
            f"none of the {len(plan.pictures)} pictures could be read, for example: {skipped[0].error}"
            if skipped
            else "there are no pictures to make features of",
            "`xmodal data info` shows what is wrong with them",
        )
    rows = tuple(len(note.ids) for note in notes)
    summary = StoreSummary(plan.meta, ids, skipped, rows, digest_of(plan.pictures), plan.weights)
    write_summary(folder, summary)
    return FeatureStore(folder, summary)
