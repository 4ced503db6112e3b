"""Backbones ``NAME@PATH`` from files, as ``bottom-up``: regions of a detector elsewhere, brought into the cache.

``NAME`` alone means what was imported before for the same pictures; the files need not be there any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from xmodal_cli import paths
from xmodal_cli.backbones.image_backbones import is_from_files
from xmodal_cli.data.region_reading import RegionSource, open_regions
from xmodal_cli.errors import MissingData
from xmodal_cli.features.filling import ExtractionPlan, ImageToExtract, fill_store, find_complete
from xmodal_cli.features.importing import imported_meta, imported_regions
from xmodal_cli.features.store import SUMMARY, FeatureStore, FileStamp
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Example, ImageTextDataset, Unreadable

_LARGE = 1_000_000_000  # bytes; to search as many takes long enough to say so


def is_imported(backbone: str) -> bool:
    """Whether the regions come from files rather than from a network."""
    return is_from_files(backbone)


def import_store(
    dataset: ImageTextDataset, folder: Path, backbone: str, pictures: tuple[ImageToExtract, ...], reporter: Reporter
) -> tuple[FeatureStore, int]:
    """The complete store of the regions of a dataset's images, and how many were read just now.

    Where the files' names, sizes and times are as they were, nothing is read.
    Raises MissingData, BadData, StorageError.
    """
    name, _, where = backbone.partition("@")
    if not where:
        return _found_before(folder, name, pictures, dataset), 0
    source = open_regions(Path(where))
    store = find_complete(folder, pictures, name, "regions", 1)
    if store is not None and store.meta.fingerprint == source.fingerprint:
        return store, 0
    return _import(dataset.examples, folder, (name, source), pictures, reporter)


def _import(
    examples: tuple[Example, ...],
    folder: Path,
    named_source: tuple[str, RegionSource],
    pictures: tuple[ImageToExtract, ...],
    reporter: Reporter,
) -> tuple[FeatureStore, int]:
    name, source = named_source
    if source.num_bytes > _LARGE:
        reporter.info(f"looking for images in {source.path} ({source.num_bytes / 1e9:.1f} GB, {source.format})")
    meta = imported_meta(name, source)
    vectors = imported_regions(examples, source, meta.dim)
    count = 0
    label = f"regions of {len(pictures)} pictures"
    with reporter.task(label, len(pictures), "pictures") as task, paths.storage_errors(folder):

        def read(files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
            nonlocal count
            count = len(files)
            return vectors(files)

        # no weights file: the source is looked at afresh each time, by its fingerprint
        store = fill_store(folder, ExtractionPlan(pictures, meta, FileStamp.of(Path())), read, task.advance)
    return store, count


def _found_before(
    folder: Path, name: str, pictures: tuple[ImageToExtract, ...], dataset: ImageTextDataset
) -> FeatureStore:
    """The newest store of these pictures' imported regions. Raises MissingData."""
    alike = folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*")
    newest = sorted((f for f in alike if (f / SUMMARY).is_file()), key=lambda f: -(f / SUMMARY).stat().st_mtime)
    for candidate in newest:
        store = find_complete(candidate, pictures, name, "regions", 1)
        if store is not None:
            return store
    raise MissingData(
        f"no regions were imported for {', '.join(dataset.splits)} of {dataset.name}",
        f"import them: xmodal features DATA --backbone {name}@PATH --kind regions",
    )
