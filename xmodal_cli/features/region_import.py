"""Import of region features: backbones ``NAME@PATH`` such as ``bottom-up@PATH`` read the files of an external detector.

``NAME`` alone uses the regions that were imported earlier for the same images; the files may be gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from xmodal_cli import paths
from xmodal_cli.data.region_reading import RegionSource, open_regions
from xmodal_cli.errors import MissingData
from xmodal_cli.features.image_digests import ImageToExtract
from xmodal_cli.features.region_vectors import region_meta, region_vectors
from xmodal_cli.features.store import SUMMARY, FeatureStore, FileStamp
from xmodal_cli.features.store_writer import ExtractionPlan, fill_store, find_complete_store, store_lock
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Example, FeatureMeta, ImageTextDataset, Unreadable

_LARGE = 1_000_000_000  # bytes; searching a source of this size is logged


def import_store(
    dataset: ImageTextDataset, folder: Path, backbone: str, images: tuple[ImageToExtract, ...], reporter: Reporter
) -> tuple[FeatureStore, int]:
    """The complete store of the regions of a dataset's images, and the number of images that were imported now.

    Nothing is read if the names, sizes and modification times of the files are unchanged.
    Raises MissingData, BadData, StorageError.
    """
    name, _, path = backbone.partition("@")
    if not path:
        return _find_imported(folder, name, images, dataset), 0
    source = open_regions(Path(path))
    store = find_complete_store(folder, images, name, "regions", 1)
    if store is not None and store.meta.fingerprint == source.fingerprint:
        return store, 0
    with store_lock(folder, reporter):
        return _import(dataset.examples, folder, (name, source), images, reporter)


def source_meta(backbone: str) -> FeatureMeta | None:
    """The description of the regions in the files of a backbone ``NAME@PATH``; None without a path."""
    name, _, path = backbone.partition("@")
    return region_meta(name, open_regions(Path(path))) if path else None


def _import(
    examples: tuple[Example, ...],
    folder: Path,
    named_source: tuple[str, RegionSource],
    images: tuple[ImageToExtract, ...],
    reporter: Reporter,
) -> tuple[FeatureStore, int]:
    name, source = named_source
    if source.num_bytes > _LARGE:
        reporter.info(f"searching for images in {source.path} ({source.num_bytes / 1e9:.1f} GB, {source.format})")
    meta = region_meta(name, source)
    vectors = region_vectors(examples, source, meta.dim)
    count = 0
    label = f"regions of {len(images)} images"
    with reporter.task(label, len(images), "images") as task, paths.storage_errors(folder):

        def read(files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
            nonlocal count
            count = len(files)
            return vectors(files)

        # no weights file: the fingerprint of the source is compared instead
        store = fill_store(
            folder, ExtractionPlan(images, meta, FileStamp.of(Path()), keep_precision=True), read, task.advance
        )
    return store, count


def _find_imported(
    folder: Path, name: str, images: tuple[ImageToExtract, ...], dataset: ImageTextDataset
) -> FeatureStore:
    """The newest store of imported regions of these images. Raises MissingData."""
    candidates = folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*")
    newest = sorted((f for f in candidates if (f / SUMMARY).is_file()), key=lambda f: -(f / SUMMARY).stat().st_mtime)
    for candidate in newest:
        store = find_complete_store(candidate, images, name, "regions", 1)
        if store is not None:
            return store
    raise MissingData(
        f"no regions were imported for {', '.join(dataset.splits)} of {dataset.name}",
        f"import them: xmodal features DATA --backbone {name}@PATH --kind regions",
    )
