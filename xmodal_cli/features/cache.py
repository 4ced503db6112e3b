"""Features of a dataset split: extracted once, cached, read back in the order of the dataset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from xmodal_cli import paths
from xmodal_cli.backbones.image_backbones import build_backbone, check_request
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.npy_files import map_features
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.features.filling import ExtractionPlan, ImageToExtract, fill_store, find_complete
from xmodal_cli.features.imported import import_store, is_imported
from xmodal_cli.features.store import FeatureStore, FileStamp
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import (
    FeatureMeta,
    FeatureRow,
    Features,
    ImageBackbone,
    ImageTextDataset,
    ImageVectors,
    Unreadable,
)

PRECOMPUTED = "precomputed"


def features_for(
    dataset: ImageTextDataset,
    settings: FeaturesConfig,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> Features:
    """Features of the dataset's readable images, in its order, in memory; extracts what is missing first.

    ``ids`` tells which images could be read. A dataset that carries its own features gives those,
    with ``meta.backbone`` "precomputed"; ``bottom-up@PATH`` reads regions from files. Raises UnknownName,
    MissingData, BadData, DownloadError, IncompatibleFeatures, StorageError.
    """
    if any(e.feature is not None for e in dataset.examples):
        return _precomputed(dataset)
    if settings.backbone == PRECOMPUTED:
        raise IncompatibleFeatures(
            f"the model reads features that came with its dataset, and {dataset.name} holds pictures",
            "use the dataset it was trained on, or train a model on pictures",
        )
    stores = [
        complete_store(part, cache_folder(part, settings), settings, compute, reporter)[0]
        for part in (dataset.select(split) for split in dataset.splits)
    ]
    if not stores:
        raise BadData(f"{dataset.name} has no images", "see `xmodal data info`")
    return _in_order(dataset, stores)


def cache_folder(dataset: ImageTextDataset, settings: FeaturesConfig) -> Path:
    """Where the features of exactly these images by that backbone are kept: a readable name and a short hash."""
    what = (str(dataset.source.absolute()), settings.backbone, settings.kind, settings.crops, dataset.ids)
    tag = hashlib.sha256(repr(what).encode()).hexdigest()[:10]
    crops = f"{settings.crops}-crop" if settings.crops > 1 else ""
    words = (dataset.name, "-".join(dataset.splits), settings.backbone.partition("@")[0], settings.kind, crops, tag)
    return paths.cache_dir() / "features" / re.sub(r"[^\w.-]+", "-", "-".join(word for word in words if word))


def complete_store(
    dataset: ImageTextDataset,
    folder: Path,
    settings: FeaturesConfig,
    compute: Compute,
    reporter: Reporter,
    batch_size: int | None = None,
) -> tuple[FeatureStore, int]:
    """The complete store of a dataset's images, and how many were extracted just now.

    ``compute`` and ``batch_size`` do not change the features beyond rounding.
    """
    check_request(settings.backbone, settings.kind, settings.crops)
    pictures = tuple(ImageToExtract(e.image_id, FileStamp.of(e.path)) for e in dataset.examples if e.path is not None)
    if is_imported(settings.backbone):
        store, extracted = import_store(dataset, folder, settings.backbone, pictures, reporter)
    else:
        store, extracted = _find_or_extract(
            pictures, folder, settings, partial(_encoder, compute, batch_size), reporter
        )
    if store.summary.skipped:
        first = store.summary.skipped[0]
        reporter.warn(
            f"{len(store.summary.skipped)} of {len(pictures)} pictures could not be read and are left out "
            f"({first.error}); {folder / 'features.json'} lists them"
        )
    return store, extracted


def _find_or_extract(
    pictures: tuple[ImageToExtract, ...],
    folder: Path,
    settings: FeaturesConfig,
    encoder: Callable[[ImageBackbone], ImageVectors],
    reporter: Reporter,
) -> tuple[FeatureStore, int]:
    store = find_complete(folder, pictures, settings.backbone, settings.kind, settings.crops)
    return (store, 0) if store else _extract(pictures, folder, settings, encoder, reporter)


def _extract(
    pictures: tuple[ImageToExtract, ...],
    folder: Path,
    settings: FeaturesConfig,
    encoder: Callable[[ImageBackbone], ImageVectors],
    reporter: Reporter,
) -> tuple[FeatureStore, int]:
    if not any(picture.stamp.size for picture in pictures):  # a moved dataset: say so before the weights are loaded
        example = f", for example {pictures[0].stamp.path}" if pictures else ""
        raise BadData(f"none of the {len(pictures)} pictures is there{example}", "see `xmodal data info`")
    backbone = build_backbone(settings.backbone, settings.kind, settings.crops)
    weights = FileStamp.of(backbone.weights_file) if backbone.weights_file else None
    count = 0
    label = f"features of {len(pictures)} pictures"
    with reporter.task(label, len(pictures), "pictures") as task, paths.storage_errors(folder):

        def encode(files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
            nonlocal count
            count = len(files)
            return encoder(backbone)(files)

        store = fill_store(folder, ExtractionPlan(pictures, backbone.meta, weights), encode, task.advance)
    return store, count


def _encoder(compute: Compute, batch_size: int | None, backbone: ImageBackbone) -> ImageVectors:
    from xmodal_cli.features.extraction import encode_files, opener_for

    resolved, opener = compute.resolve(), opener_for(backbone)
    return lambda files: encode_files(files, backbone, opener, resolved, batch_size)


def _in_order(dataset: ImageTextDataset, stores: list[FeatureStore]) -> Features:
    """One ``Features`` of all stores, in the dataset's order."""
    metas = {store.meta.key() for store in stores}
    if len(metas) > 1:
        raise IncompatibleFeatures(f"the splits of {dataset.name} have features of different weights", "run it again")
    ids = tuple(i for store in stores for i in store.ids)
    values = np.concatenate([shard for store in stores for shard in store.shards])
    position = {image_id: row for row, image_id in enumerate(ids)}
    wanted = tuple(i for i in dataset.ids if i in position)
    if wanted != ids:
        values = values[[position[i] for i in wanted]]
    return Features(wanted, values, stores[0].meta)


def _precomputed(dataset: ImageTextDataset) -> Features:
    """The rows that the dataset's own ``.npy`` files hold, fp16, in the dataset's order."""
    rows = [e.feature for e in dataset.examples]
    if any(row is None for row in rows):
        raise BadData(f"only some images of {dataset.name} have features", "give one format: pictures or features")
    wanted = [row for row in rows if row is not None]
    files = {row.path: map_features(row.path) for row in wanted}
    values = np.stack([_row(files[row.path], row) for row in wanted]).astype(np.float16)
    kind = "grid" if values.ndim == 3 else "global"
    return Features(dataset.ids, values, FeatureMeta(PRECOMPUTED, "", kind, int(values.shape[-1])))


def _row(values: np.ndarray, row: FeatureRow) -> np.ndarray:
    if not 0 <= row.row < len(values):
        raise BadData(
            f"{row.path} has {len(values)} rows and the dataset asks for row {row.row}", "give matching files"
        )
    found: np.ndarray = values[row.row]
    return found
