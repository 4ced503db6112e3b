"""Writes a feature store shard by shard, and extracts only what is missing.

A shard contains the features of a fixed chunk of images and digests of its inputs, so an interrupted extraction resumes
with the first missing shard, and images that were moved or touched are not extracted again. The encoder is an argument;
torch is not imported.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from xmodal_cli import interrupts
from xmodal_cli.data.decoding import DECODING, Past, has_damaged, must_decode_again
from xmodal_cli.errors import BadData, Category, XmodalError
from xmodal_cli.features.image_digests import ImageToExtract, digest_file, hash_content, hash_images
from xmodal_cli.features.precision import needs_float32
from xmodal_cli.features.shards import ShardMetadata, read_shard_metadata, shard_path, write_shard
from xmodal_cli.features.store import (
    SUMMARY,
    FeatureStore,
    FileStamp,
    Skipped,
    StoreSummary,
    open_store,
    write_summary,
)
from xmodal_cli.file_lock import folder_lock
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Defect, FeatureMeta, Unreadable

# a types.ImageVectors that gets all its files at once
Encode = Callable[[Sequence[Path]], Iterator[tuple[Path, np.ndarray | Unreadable]]]

SHARD_ROWS = {"global": 1024}  # a few seconds to a minute of extraction, 2 to 50 MB
SHARD_ROWS_OF_CELLS = 128
_HASH_THREADS = 4
NO_FACTS: Mapping[str, Any] = MappingProxyType({})
_NOT_RETRIED = (Category.NOT_FINITE, Category.MISSING)  # a digest shows that a missing file exists now
_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class ExtractionPlan:
    """The contents of a store: the features of ``images`` by the backbone that ``meta`` describes."""

    images: tuple[ImageToExtract, ...]
    meta: FeatureMeta
    weights: FileStamp | None
    keep_precision: bool = False  # features from files: shards are float32 where float16 would lose values
    by_content: bool = False  # shards store a digest of the bytes of their images, which are read a second time

    @property
    def chunks(self) -> list[tuple[ImageToExtract, ...]]:
        """The images of each shard."""
        rows = SHARD_ROWS.get(self.meta.kind, SHARD_ROWS_OF_CELLS)
        return [self.images[start : start + rows] for start in range(0, len(self.images), rows)]


def find_complete_store(
    folder: Path,
    images: Sequence[ImageToExtract],
    backbone: str,
    kind: str,
    crops: int,
    facts: Mapping[str, Any] = NO_FACTS,
) -> FeatureStore | None:
    """The store in ``folder`` if it is complete for exactly these images and backbone; does not load the backbone.

    ``facts`` are entries that its preprocessing must have.
    """
    try:
        store = open_store(folder)
        summary, meta = store.summary, store.meta
        same_backbone = (meta.backbone, meta.kind, meta.crops) == (backbone, kind, crops)
        same_backbone &= all(meta.preprocessing.get(name) == value for name, value in facts.items())
        if not same_backbone or summary.weights is None or not summary.weights.is_current():
            return None
        if summary.images_digest != hash_images(images):
            return None
        past = _past(summary.skipped, summary.defects, summary.decoding)
        if must_decode_again([Path(i.stamp.path) for i in images], summary.decoding, past):
            return None
        if summary.decoding != DECODING:  # all images have the same pixels in both
            store = replace(store, summary=replace(summary, decoding=DECODING))
            write_summary(folder, store.summary)
        return store if store.shards else None  # opening them checks their sizes
    except XmodalError:
        return None


def fill_store(
    folder: Path,
    plan: ExtractionPlan,
    encode: Encode,
    advance: Callable[[int], None],
    defects: Sequence[Defect] = (),
) -> FeatureStore:
    """Complete the store in ``folder`` according to ``plan``, and open it.

    ``encode`` computes features of files in order; ``advance`` is called with the number of images done, existing ones
    included. Shards of the same bytes are used if only the paths or times of the images differ. ``defects`` is a list
    that ``encode`` extends with the defects of images that are used. Raises BadData if no image is readable,
    StorageError.
    """
    pool = ThreadPoolExecutor(_HASH_THREADS)
    try:
        return _fill_store(folder, plan, encode, advance, defects, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _fill_store(
    folder: Path,
    plan: ExtractionPlan,
    encode: Encode,
    advance: Callable[[int], None],
    defects: Sequence[Defect],
    pool: ThreadPoolExecutor,
) -> FeatureStore:
    shards: list[ShardMetadata | None] = []
    for n, chunk in enumerate(plan.chunks):
        shards.append(_read_existing(shard_path(folder, n), chunk, plan.meta, pool))
        advance(len(chunk) if shards[-1] else 0)
    missing = [n for n, shard in enumerate(shards) if shard is None]
    if missing:
        (folder / SUMMARY).unlink(missing_ok=True)
    # one stream over all missing images, so that decoding does not wait for a shard to be written
    vectors = encode([Path(p.stamp.path) for n in missing for p in plan.chunks[n]])
    with interrupts.resumable(lambda: _resume_hint(plan, shards)):
        for n in missing:
            shards[n] = _write_chunk(shard_path(folder, n), plan.chunks[n], plan, vectors, advance, defects, pool)
    _remove_extra_shards(folder, len(shards))
    return _write_complete_summary(folder, plan, [shard for shard in shards if shard is not None])


def _resume_hint(plan: ExtractionPlan, shards: Sequence[ShardMetadata | None]) -> str:
    done = sum(len(chunk) for chunk, shard in zip(plan.chunks, shards, strict=True) if shard is not None)
    return interrupts.hint_of(done, len(plan.images), "images", "are extracted")


def store_lock(folder: Path, reporter: Reporter) -> AbstractContextManager[None]:
    """Admit one writer of the store in ``folder``; others wait until it has finished. Raises StorageError."""
    return folder_lock(folder, f"the feature store {folder}", reporter, math.inf)


def _read_existing(
    file: Path, chunk: tuple[ImageToExtract, ...], meta: FeatureMeta, pool: ThreadPoolExecutor
) -> ShardMetadata | None:
    """The metadata of a shard that is undamaged and made from this chunk, else None.

    Its images may have other paths and times, but not other bytes.
    """
    with contextlib.suppress(BadData):
        metadata = read_shard_metadata(file)
        if metadata.plan != hash_images(chunk, meta):
            moved = _with_paths_of(chunk, metadata)
            if moved is None or metadata.content != hash_content(chunk, meta, pool.map(digest_file, chunk)):
                return None
            metadata = moved
        skipped = [Skipped(*entry) for entry in metadata.skipped]
        past = _past(skipped, metadata.defects, metadata.decoding)
        if not must_decode_again([Path(i.stamp.path) for i in chunk], metadata.decoding, past):
            return metadata
    return None


def _with_paths_of(chunk: tuple[ImageToExtract, ...], metadata: ShardMetadata) -> ShardMetadata | None:
    """The metadata of a shard with the paths of ``chunk``; None if its images are others, or not known by content."""
    if not metadata.content:
        return None
    paths = {image.image_id: image.stamp.path for image in chunk}
    if {*metadata.ids, *(image_id for image_id, *_ in metadata.skipped)} != paths.keys():
        return None
    if not {path for path, *_ in metadata.defects} <= set(paths.values()):  # a defect does not have the image id
        return None
    skipped = tuple((i, paths[i], e.replace(old, paths[i]), c, m) for i, old, e, c, m in metadata.skipped)
    return replace(metadata, skipped=skipped)


def _past(skipped: Sequence[Skipped], defects: Sequence[tuple[str, str, str]], decoding: str) -> Past:
    """The images that may be readable now: of an older version all that were not, else those that may change."""
    retried = [s for s in skipped if s.category not in _NOT_RETRIED and (s.may_change or decoding != DECODING)]
    return Past([Path(s.path) for s in retried], has_damaged(defects))


def _write_chunk(
    file: Path,
    chunk: tuple[ImageToExtract, ...],
    plan: ExtractionPlan,
    vectors: Iterator[tuple[Path, np.ndarray | Unreadable]],
    advance: Callable[[int], None],
    defects: Sequence[Defect],
    pool: ThreadPoolExecutor,
) -> ShardMetadata:
    # in threads, while the files are in the cache of the operating system
    digests = [pool.submit(digest_file, image) for image in chunk] if plan.by_content else None
    rows: list[np.ndarray] = []
    ids: list[str] = []
    skipped: list[tuple[str, str, str, str, bool]] = []
    for image, (path, vector) in zip(chunk, vectors, strict=False):  # the stream continues after the chunk
        if isinstance(vector, Unreadable):
            skipped.append((image.image_id, str(path), vector.reason, vector.category.value, vector.may_change))
        else:
            ids.append(image.image_id)
            rows.append(vector if plan.keep_precision else _to_float16(vector))
        advance(1)
    files = {image.stamp.path for image in chunk}
    found = dict.fromkeys((str(d.path), d.reason, d.category.value) for d in defects if str(d.path) in files)
    content = hash_content(chunk, plan.meta, (d.result() for d in digests)) if digests else ""
    metadata = ShardMetadata(hash_images(chunk, plan.meta), tuple(ids), tuple(skipped), tuple(found), content=content)
    is_float32 = plan.keep_precision and bool(rows) and needs_float32(np.stack(rows))
    write_shard(file, rows, metadata, "float32" if is_float32 else "float16")
    return metadata


def _to_float16(vector: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(vector, -_FLOAT16_MAX, _FLOAT16_MAX)
    return clipped.astype(np.float16)


def _remove_extra_shards(folder: Path, count: int) -> None:
    """Remove the shards of an earlier, larger store."""
    while shard_path(folder, count).exists():
        shard_path(folder, count).unlink()
        count += 1


def _write_complete_summary(folder: Path, plan: ExtractionPlan, shards: list[ShardMetadata]) -> FeatureStore:
    skipped = tuple(Skipped(*entry) for shard in shards for entry in shard.skipped)
    ids = tuple(image_id for shard in shards for image_id in shard.ids)
    if not ids:
        raise BadData(
            f"none of the {len(plan.images)} images is readable, for example: {skipped[0].error}"
            if skipped
            else "there are no images to extract features from",
            "`xmodal data info DATA` shows the problems",
        )
    rows = tuple(len(shard.ids) for shard in shards)
    defects = tuple(defect for shard in shards for defect in shard.defects)
    summary = StoreSummary(plan.meta, ids, skipped, rows, hash_images(plan.images), plan.weights, defects=defects)
    store = FeatureStore(folder, summary)
    store = replace(store, summary=replace(summary, dtype=store.dtype.name))
    write_summary(folder, store.summary)
    return store
