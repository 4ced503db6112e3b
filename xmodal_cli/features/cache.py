"""Features of a dataset split: extracted once, cached, loaded in the order of the dataset."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli import paths
from xmodal_cli.backbones.image_backbones import build_backbone, check_request, is_from_files, known_facts
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.npy_files import map_features
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.features.feature_source import declared_meta, kind_of_rows
from xmodal_cli.features.image_digests import ImageToExtract
from xmodal_cli.features.moved_stores import link_moved_shards
from xmodal_cli.features.precision import check_shape, read_rows, to_precision
from xmodal_cli.features.region_import import import_store
from xmodal_cli.features.store import FeatureStore, FileStamp
from xmodal_cli.features.store_writer import ExtractionPlan, fill_store, find_complete_store, store_lock
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import (
    PRECOMPUTED,
    FeatureMeta,
    Features,
    ImageBackbone,
    ImageTextDataset,
    ImageVectors,
    Unreadable,
)

if TYPE_CHECKING:
    from xmodal_cli.data.images import ImageReader


def load_features(
    dataset: ImageTextDataset,
    settings: FeaturesConfig,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> Features:
    """Features of the readable images of ``dataset``, in its order, in memory; extracts missing ones first.

    ``ids`` lists the readable images. A dataset with precomputed features returns those, with ``meta.backbone``
    "precomputed" or the declared backbone; ``bottom-up@PATH`` reads regions from files. Raises UnknownName,
    MissingData, BadData, DownloadError, IncompatibleFeatures, StorageError.
    """
    if dataset.has_features:
        return _load_precomputed(dataset)
    return merge_stores(dataset, ensure_stores(dataset, settings, compute, reporter))


def ensure_stores(
    dataset: ImageTextDataset, settings: FeaturesConfig, compute: Compute, reporter: Reporter
) -> list[FeatureStore]:
    """The complete stores of the splits of a dataset, all of the same weights. Raises like ``load_features``."""
    if settings.backbone == PRECOMPUTED:
        raise IncompatibleFeatures(
            f"the model reads precomputed features, and {dataset.name} contains images",
            "use the dataset it was trained on, or train a model on images",
        )
    stores = [
        ensure_store(part, cache_folder(part, settings), settings, compute, reporter)[0]
        for part in (dataset.select(split) for split in dataset.splits)
    ]
    if not stores:
        raise BadData(f"{dataset.name} has no images", f"see `{xmodal_command('data', 'info', dataset.source)}`")
    if len({store.meta.key() for store in stores}) > 1:
        raise IncompatibleFeatures(
            f"the splits of {dataset.name} have features of different weights", "run the command again"
        )
    return stores


def positions_of(dataset: ImageTextDataset, stores: Sequence[FeatureStore]) -> tuple[tuple[str, ...], np.ndarray]:
    """The readable images in the order of the dataset, and (images,) int64 rows in the concatenated stores."""
    position = {image_id: row for row, image_id in enumerate(i for store in stores for i in store.ids)}
    ids = tuple(i for i in dataset.ids if i in position)
    return ids, np.array([position[i] for i in ids], dtype=np.int64)


def cached_meta(dataset: ImageTextDataset, settings: FeaturesConfig) -> FeatureMeta | None:
    """The description of the features that the dataset has, or that are in the cache; None if there are none.

    Raises BadData if there are no images either.
    """
    first = next((e.feature for e in dataset.examples if e.feature is not None), None)
    if first is not None:
        return _precomputed_meta(dataset, map_features(first.path).shape[1:])
    if not dataset.splits:
        return None
    part = dataset.select(next(iter(dataset.splits)))
    images = _images_of(part)
    if store := _find_store(images, cache_folder(part, settings), settings):
        return store.meta
    if not is_from_files(settings.backbone):
        _check_existence(images)
    return None


def cache_folder(dataset: ImageTextDataset, settings: FeaturesConfig) -> Path:
    """The cache folder of these images' features by that backbone: a readable name and a short hash."""
    identity = (str(dataset.source.absolute()), settings.backbone, settings.kind, settings.crops, dataset.ids)
    tag = hashlib.sha256(repr(identity).encode()).hexdigest()[:10]
    return paths.cache_dir() / "features" / _folder_name(dataset.name, dataset, settings, tag)


def _similar_folders(dataset: ImageTextDataset, settings: FeaturesConfig) -> str:
    """The glob pattern of the cache folders of the same splits and backbone, of datasets of any name and folder."""
    return f"*{_folder_name('x', dataset, settings, 'x')[1:-1]}*"


def _folder_name(name: str, dataset: ImageTextDataset, settings: FeaturesConfig, tag: str) -> str:
    crops = f"{settings.crops}-crop" if settings.crops > 1 else ""
    parts = (name, "-".join(dataset.splits), settings.backbone.partition("@")[0], settings.kind, crops, tag)
    return re.sub(r"[^\w.-]+", "-", "-".join(part for part in parts if part))


def ensure_store(
    dataset: ImageTextDataset,
    folder: Path,
    settings: FeaturesConfig,
    compute: Compute,
    reporter: Reporter,
    batch_size: int | None = None,
) -> tuple[FeatureStore, int]:
    """The complete store of a dataset's images, and the number of images that were extracted now.

    ``compute`` and ``batch_size`` change the features only by rounding. Raises like ``load_features``.
    """
    check_request(settings.backbone, settings.kind, settings.crops)
    images = _images_of(dataset)
    if is_from_files(settings.backbone):
        store, extracted = import_store(dataset, folder, settings.backbone, images, reporter)
    else:
        encoder = partial(_build_encoder, settings, compute, batch_size, len(images))
        by_content = compute.engine != "ray"  # its machines read the images, this one does not
        store, extracted = _find_or_extract(dataset, images, folder, settings, encoder, by_content, reporter)
    if store.summary.skipped:
        first = store.summary.skipped[0]
        reporter.warn(
            f"{len(store.summary.skipped)} of {len(images)} images are unreadable and were skipped "
            f"({first.error}); {folder / 'features.json'} lists them"
        )
    if store.summary.defects:
        path, reason, _ = store.summary.defects[0]
        reporter.warn(
            f"{len(store.summary.defects)} of {len(images)} images are damaged and are used ({path}: {reason})"
        )
    return store, extracted


def _images_of(dataset: ImageTextDataset) -> tuple[ImageToExtract, ...]:
    return tuple(ImageToExtract(e.image_id, FileStamp.of(e.path)) for e in dataset.examples if e.path is not None)


def _find_store(images: tuple[ImageToExtract, ...], folder: Path, settings: FeaturesConfig) -> FeatureStore | None:
    """The complete store of these images; the backbone is not loaded."""
    backbone = settings.backbone
    return find_complete_store(folder, images, backbone, settings.kind, settings.crops, known_facts(backbone))


def _find_or_extract(
    dataset: ImageTextDataset,
    images: tuple[ImageToExtract, ...],
    folder: Path,
    settings: FeaturesConfig,
    encoder: Callable[[ImageReader, ImageBackbone], ImageVectors],
    by_content: bool,
    reporter: Reporter,
) -> tuple[FeatureStore, int]:
    find = partial(_find_store, images, folder, settings)
    if store := find():
        return store, 0
    with store_lock(folder, reporter):
        if store := find():  # another process may have completed it meanwhile
            return store, 0
        _check_existence(images)
        if folder == cache_folder(dataset, settings):
            with paths.storage_errors(folder):
                link_moved_shards(folder, _similar_folders(dataset, settings), images)
        return _extract(images, folder, settings, encoder, by_content, reporter)


def _extract(
    images: tuple[ImageToExtract, ...],
    folder: Path,
    settings: FeaturesConfig,
    encoder: Callable[[ImageReader, ImageBackbone], ImageVectors],
    by_content: bool,
    reporter: Reporter,
) -> tuple[FeatureStore, int]:
    from xmodal_cli.data.images import ImageReader

    reader = ImageReader()
    backbone = build_backbone(settings.backbone, settings.kind, settings.crops)
    weights = FileStamp.of(backbone.weights_file) if backbone.weights_file else None
    count = 0
    label = f"features of {len(images)} images"
    with reporter.task(label, len(images), "images") as task, paths.storage_errors(folder):

        def encode(files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
            nonlocal count
            count = len(files)
            return encoder(reader, backbone)(files)

        plan = ExtractionPlan(images, backbone.meta, weights, by_content=by_content)
        store = fill_store(folder, plan, encode, task.advance, reader.defects)
    return store, count


def _check_existence(images: tuple[ImageToExtract, ...]) -> None:
    """Raise BadData for a moved dataset, before the weights of a backbone are loaded."""
    if not any(image.stamp.size for image in images):
        example = f", for example {images[0].stamp.path}" if images else ""
        raise BadData(f"none of the {len(images)} images exists{example}", "see `xmodal data info DATA`")


def _build_encoder(
    settings: FeaturesConfig,
    compute: Compute,
    batch_size: int | None,
    num_images: int,
    reader: ImageReader,
    backbone: ImageBackbone,
) -> ImageVectors:
    from xmodal_cli.features.extraction import check_batch_size, default_batch_size, encode_files, opener_for

    if compute.engine == "ray":
        from xmodal_cli.features.ray_encoding import encode_on_ray

        build = partial(_encoder_of_worker, settings, compute.of_worker, batch_size, num_images)
        size = batch_size or default_batch_size("cpu", backbone.meta.crops)
        return lambda files: encode_on_ray(build, files, size, reader.defects, compute.address)
    resolved, opener = compute.resolve(), opener_for(backbone, reader)
    if batch_size is not None:
        check_batch_size(batch_size, backbone.meta, num_images, resolved.device)
    return lambda files: encode_files(files, backbone, opener, resolved, batch_size)


def _encoder_of_worker(
    settings: FeaturesConfig, compute: Compute, batch_size: int | None, num_images: int, reader: ImageReader
) -> ImageVectors:
    backbone = build_backbone(settings.backbone, settings.kind, settings.crops)
    return _build_encoder(settings, compute, batch_size, num_images, reader, backbone)


def merge_stores(dataset: ImageTextDataset, stores: Sequence[FeatureStore]) -> Features:
    """The features of all stores, in the order of the dataset."""
    ids, positions = positions_of(dataset, stores)
    values = np.concatenate([shard for store in stores for shard in store.shards])
    if len(ids) < len(values) or (np.diff(positions) != 1).any():
        values = values[positions]
    return Features(ids, values, stores[0].meta)


def _load_precomputed(dataset: ImageTextDataset) -> Features:
    """The dataset's own features from its ``.npy`` files, in the dataset's order.

    They are float16, or float32 where float16 would overflow or round badly. Raises BadData for values that are not
    finite and for rows of different shapes, with the file and the row.
    """
    rows = [e.feature for e in dataset.examples]
    feature_rows = [row for row in rows if row is not None]
    if len(feature_rows) < len(rows):
        raise BadData(f"only some images of {dataset.name} have features", "give features for all images or for none")
    files = {row.path: map_features(row.path) for row in feature_rows}
    first, shape = feature_rows[0].path, files[feature_rows[0].path].shape[1:]
    values = np.empty((len(rows), *shape), np.result_type(*(mapped.dtype for mapped in files.values())))
    for file, mapped in files.items():
        check_shape(file, mapped.shape[1:], f"those of {first}", shape)
        positions = [n for n, row in enumerate(feature_rows) if row.path == file]
        numbers = [feature_rows[n].row for n in positions]
        values[positions] = read_rows(file, mapped, numbers)
    return Features(dataset.ids, to_precision(values), _precomputed_meta(dataset, shape))


def _precomputed_meta(dataset: ImageTextDataset, shape: tuple[int, ...]) -> FeatureMeta:
    if dataset.features_from is not None:
        return declared_meta(dataset, dataset.features_from)
    return FeatureMeta(PRECOMPUTED, "", kind_of_rows(shape), shape[-1])
