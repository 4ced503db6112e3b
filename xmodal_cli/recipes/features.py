"""Features of a dataset: extracted once per split, kept in the cache, read back in the dataset's order.

torch is imported only when something is left to extract.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import paths
from xmodal_cli.backbones._families import build_backbone, check_request
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.errors import BadData, IncompatibleFeatures, StorageError, UnknownName
from xmodal_cli.features.filling import Picture, Plan, fill_store, find_complete
from xmodal_cli.features.store import FeatureStore, FileStamp
from xmodal_cli.recipes.regions import import_store, is_imported
from xmodal_cli.types import (
    FeatureMeta,
    FeatureRow,
    Features,
    ImageBackbone,
    ImageTextDataset,
    ImageVectors,
    Reporter,
    Silent,
)

PRECOMPUTED = "precomputed"


@dataclass(frozen=True)
class Computing:
    """How to extract; none of it changes what the features are, beyond rounding."""

    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    reporter: Reporter = Silent()


def features_for(
    dataset: ImageTextDataset,
    settings: FeaturesConfig,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter | None = None,
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
    computing = Computing(device, precision, None, reporter or Silent())
    stores = [
        _bring_up_to_date(part, cache_folder(part, settings), settings, computing)[0]
        for part in (dataset.select(split) for split in dataset.splits)
    ]
    if not stores:
        raise BadData(f"{dataset.name} has no images", "see `xmodal data info`")
    return _in_order(dataset, stores)


def open_part(data: str, split: str | None = None, format: str | None = None) -> ImageTextDataset:
    """A dataset by name or path, or one split of it. Raises MissingData, UnknownName for a split it does not have."""
    from xmodal_cli.data.registry import load_dataset

    dataset = load_dataset(data, format)
    if split is None:
        return dataset
    if split not in dataset.splits:
        raise UnknownName.of(f"split in {dataset.name}", split, dataset.splits)
    return dataset.select(split)


def extract_features(
    dataset: ImageTextDataset, settings: FeaturesConfig, out: Path | None = None, computing: Computing | None = None
) -> dict[str, Any]:
    """Extract a dataset's features, per split into the cache, or all into the folder ``out``."""
    computing = computing or Computing()
    if any(e.feature is not None for e in dataset.examples):
        raise BadData(f"{dataset.name} carries its own features", "train and eval read them as they are")
    if out is not None and out.exists() and not out.is_dir():
        raise StorageError(f"{out} is a file, and features are a folder", "give --out another name")
    started = time.perf_counter()
    parts = [dataset] if out else [dataset.select(split) for split in dataset.splits]
    done = [_bring_up_to_date(p, out or cache_folder(p, settings), settings, computing) for p in parts]
    seconds = time.perf_counter() - started
    stores, extracted = [store for store, _ in done], sum(count for _, count in done)
    if not stores:
        raise BadData(f"{dataset.name} has no images", "name a split it has; see `xmodal data info`")
    meta = stores[0].meta
    return {
        "data": dataset.name,
        "backbone": meta.backbone,
        "fingerprint": meta.fingerprint,
        "kind": meta.kind,
        "crops": meta.crops,
        "shape": list(stores[0].shards[0].shape[1:]),
        "images": sum(len(store.ids) for store in stores),
        "extracted": extracted,
        "seconds": round(seconds, 3),
        "folders": [str(store.folder) for store in stores],
        "skipped": [asdict(entry) for store in stores for entry in store.summary.skipped],
    }


def cache_folder(dataset: ImageTextDataset, settings: FeaturesConfig) -> Path:
    """Where the features of exactly these images by that backbone are kept: a readable name and a short hash."""
    what = (str(dataset.source.absolute()), settings.backbone, settings.kind, settings.crops, dataset.ids)
    tag = hashlib.sha256(repr(what).encode()).hexdigest()[:10]
    crops = f"{settings.crops}-crop" if settings.crops > 1 else ""
    words = (dataset.name, "-".join(dataset.splits), settings.backbone.partition("@")[0], settings.kind, crops, tag)
    return paths.cache_dir() / "features" / re.sub(r"[^\w.-]+", "-", "-".join(word for word in words if word))


def _bring_up_to_date(
    dataset: ImageTextDataset, folder: Path, settings: FeaturesConfig, computing: Computing
) -> tuple[FeatureStore, int]:
    """The complete store of a dataset's images, and how many were extracted just now."""
    check_request(settings.backbone, settings.kind, settings.crops)
    pictures = tuple(Picture(e.image_id, FileStamp.of(e.path)) for e in dataset.examples if e.path is not None)
    if is_imported(settings.backbone):
        store, extracted = import_store(dataset, folder, settings.backbone, pictures, computing.reporter)
    else:
        store, extracted = _find_or_extract(pictures, folder, settings, computing)
    if store.summary.skipped:
        first = store.summary.skipped[0]
        computing.reporter.warn(
            f"{len(store.summary.skipped)} of {len(pictures)} pictures could not be read and are left out "
            f"({first.error}); {folder / 'features.json'} lists them"
        )
    return store, extracted


def _find_or_extract(
    pictures: tuple[Picture, ...], folder: Path, settings: FeaturesConfig, computing: Computing
) -> tuple[FeatureStore, int]:
    store = find_complete(folder, pictures, settings.backbone, settings.kind, settings.crops)
    return (store, 0) if store else _extract(pictures, folder, settings, computing)


def _extract(
    pictures: tuple[Picture, ...], folder: Path, settings: FeaturesConfig, computing: Computing
) -> tuple[FeatureStore, int]:
    if not any(picture.stamp.size for picture in pictures):  # a moved dataset: say so before the weights are loaded
        example = f", for example {pictures[0].stamp.path}" if pictures else ""
        raise BadData(f"none of the {len(pictures)} pictures is there{example}", "see `xmodal data info`")
    backbone = build_backbone(settings.backbone, settings.kind, settings.crops)
    weights = FileStamp.of(backbone.weights_file) if backbone.weights_file else None
    count = 0
    label = f"features of {len(pictures)} pictures"
    with computing.reporter.task(label, len(pictures), "pictures") as task, paths.storage_errors(folder):

        def encode(files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | str]]:
            nonlocal count
            count = len(files)
            return _encoder(backbone, computing)(files)

        store = fill_store(folder, Plan(pictures, backbone.meta, weights), encode, task.advance)
    return store, count


def _encoder(backbone: ImageBackbone, computing: Computing) -> ImageVectors:
    from xmodal_cli.features.extraction import encode_files
    from xmodal_cli.recipes.device import pick_device, pick_dtype
    from xmodal_cli.recipes.encoding import opener_for

    device = pick_device(computing.device)
    dtype = pick_dtype(computing.precision, device)
    opener = opener_for(backbone)
    return lambda files: encode_files(files, backbone, opener, device, dtype, computing.batch_size)


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
    files = {row.path: _map_npy(row.path) for row in wanted}
    values = np.stack([_row(files[row.path], row) for row in wanted]).astype(np.float16)
    kind = "grid" if values.ndim == 3 else "global"
    return Features(dataset.ids, values, FeatureMeta(PRECOMPUTED, "", kind, int(values.shape[-1])))


def _map_npy(file: Path) -> np.ndarray:
    try:
        mapped: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"{file} cannot be read as features: {error}", "it must be a .npy array of numbers") from error
    if mapped.ndim not in (2, 3) or mapped.dtype.kind != "f":
        raise BadData(f"{file} holds {mapped.dtype} {mapped.shape}, not features", "it must be (images, dim) floats")
    return mapped


def _row(values: np.ndarray, row: FeatureRow) -> np.ndarray:
    if not 0 <= row.row < len(values):
        raise BadData(
            f"{row.path} has {len(values)} rows and the dataset asks for row {row.row}", "give matching files"
        )
    found: np.ndarray = values[row.row]
    return found
