"""The images of a dataset split for training or evaluation: features in memory or on disk, or files of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.backbones.image_backbones import KINDS, build_backbone, is_from_files, other_features_error
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.unreadable_images import drop_unreadable_images
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.features.cache import cached_meta, ensure_stores, load_features, merge_stores, positions_of
from xmodal_cli.features.mapped_rows import MappedRows
from xmodal_cli.features.pixels import pixel_batches
from xmodal_cli.features.region_import import source_meta
from xmodal_cli.features.store import FeatureStore
from xmodal_cli.memory import format_bytes, total_bytes
from xmodal_cli.reporter import Reporter
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import PRECOMPUTED, FeatureMeta, ImageBackbone, ImageTextDataset


@dataclass(frozen=True)
class ImageFeatures:
    """The readable images of a split: ``features`` (images, ...) fp16 or fp32, or None for models that read pixels.

    Features that are larger than ``features.memory`` are rows on disk.

    ``backbone`` has the preprocessing for models that read pixels.
    """

    dataset: ImageTextDataset
    meta: FeatureMeta
    features: Tensor | MappedRows | None
    backbone: ImageBackbone | None = None

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Tensor]:
        """(images, ...) features or uint8 pixels, ``size`` images at a time, of all images or of ``rows``.

        Raises BadData for an unreadable file.
        """
        rows = range(len(self.dataset.examples)) if rows is None else rows
        if self.features is not None:
            for start in range(0, len(rows), size):
                yield self.features[torch.as_tensor(rows[start : start + size])]
            return
        assert self.backbone is not None
        paths = self.paths
        yield from pixel_batches([paths[row] for row in rows], self.backbone, size)

    @property
    def paths(self) -> list[Path]:
        """The image files, in the order of ``features``."""
        return [e.path for e in self.dataset.examples if e.path is not None]


def check_same_features(
    name: str, meta: FeatureMeta, dataset: ImageTextDataset, found: FeatureMeta, from_precomputed: bool = False
) -> None:
    """Raise IncompatibleFeatures unless a dataset has the features that ``name`` reads, which ``meta`` describes.

    ``from_precomputed``: ``name`` was trained on precomputed features. Then other precomputed features need the same
    kind and dimension only, unless the backbones of both were declared.
    """
    undeclared = dataset.has_features and PRECOMPUTED in (found.backbone, meta.backbone)
    same_origin = found.backbone == meta.backbone or (from_precomputed and undeclared)
    if found.key() == meta.key() or (from_precomputed and undeclared and _shape(found) == _shape(meta)):
        return
    if same_origin and _shape(found) != _shape(meta):
        file = next((e.feature.path for e in dataset.examples if e.feature is not None), dataset.name)
        raise IncompatibleFeatures(
            f"{name} reads {meta.kind} features of {meta.dim} values, {file} has {found.kind} features of {found.dim}",
            "use features of the same network and kind for all splits",
        )
    if found.backbone == meta.backbone:
        raise other_features_error(name, meta, found)
    hint = "use a dataset with the same features, or train a model on these"
    if found.backbone == PRECOMPUTED:
        hint = f"if {meta.backbone} computed them: xmodal data add NAME PATH --features-from {meta.backbone}"
    raise IncompatibleFeatures(f"{name} reads features of {meta.backbone}, {dataset.name} has {found.backbone}", hint)


def _shape(meta: FeatureMeta) -> tuple[str, int]:
    return meta.kind, meta.dim


def _select_readable(dataset: ImageTextDataset, ids: Sequence[str]) -> ImageTextDataset:
    """The images with features. Raises BadData if there are none."""
    readable = set(ids)
    examples = tuple(e for e in dataset.examples if e.image_id in readable)
    if not examples:
        hint = f"see `{xmodal_command('data', 'info', dataset.source)}` for the reasons"
        raise BadData(f"no image of {dataset.name} is readable", hint)
    return replace(dataset, examples=examples)


def read_image_features(
    dataset: ImageTextDataset, settings: FeaturesConfig, compute: Compute, reporter: Reporter
) -> ImageFeatures:
    """The image features of ``settings.kind``, in memory if they fit. Raises like ``load_features``."""
    _check_images(dataset, settings)
    if settings.kind == "pixels":
        backbone = build_backbone(settings.backbone, "pixels", settings.crops)
        return ImageFeatures(drop_unreadable_images(dataset, reporter), backbone.meta, None, backbone)
    if dataset.has_features:
        features = load_features(dataset, settings, compute, reporter)
    else:
        stores = ensure_stores(dataset, settings, compute, reporter)
        size, limit = sum(shard.nbytes for store in stores for shard in store.shards), _limit(settings)
        if limit is not None and size > limit:
            return _map_features(dataset, stores, size, limit, reporter)
        features = merge_stores(dataset, stores)
    values = features.values if features.values.flags.writeable else np.array(features.values)  # no memory map
    return ImageFeatures(_select_readable(dataset, features.ids), features.meta, torch.from_numpy(values))


def _limit(settings: FeaturesConfig) -> int | None:
    """The largest features, in bytes, that are kept in memory; None if it is unknown."""
    if settings.memory:
        return int(settings.memory * 1e9)
    total = total_bytes()  # not what is free now: a resumed run has the batches of the first part
    return None if total is None else total // 4  # two copies while they are loaded, and those of val


def _map_features(
    dataset: ImageTextDataset, stores: Sequence[FeatureStore], size: int, limit: int, reporter: Reporter
) -> ImageFeatures:
    """The features as rows on disk. Reads all shards once to compare their checksums; raises BadData."""
    for store in stores:
        store.verify()
    ids, positions = positions_of(dataset, stores)
    readable = _select_readable(dataset, ids)
    rows = MappedRows([shard for store in stores for shard in store.shards], positions, limit)
    reporter.info(
        f"the features of {len(rows):,} images are read from disk: {format_bytes(size)} is more than "
        f"{format_bytes(limit)} (features.memory); batches are drawn from windows of {rows.window_rows:,} images"
    )
    return ImageFeatures(readable, stores[0].meta, rows)


def known_meta(dataset: ImageTextDataset, settings: FeaturesConfig) -> FeatureMeta | None:
    """The description of what ``read_image_features`` will return; nothing is extracted.

    None for regions whose files are not given. Raises like building the backbone, which is not built if the features
    are in the cache or in the dataset.
    """
    _check_images(dataset, settings)
    if (meta := cached_meta(dataset, settings)) is not None:
        return meta
    if is_from_files(settings.backbone):
        return source_meta(settings.backbone)
    return build_backbone(settings.backbone, settings.kind, settings.crops).meta


def _check_images(dataset: ImageTextDataset, settings: FeaturesConfig) -> None:
    """Raise IncompatibleFeatures for a dataset of features if a model reads pixels or computes on a trunk."""
    if settings.kind not in KINDS and dataset.has_features:
        raise IncompatibleFeatures(
            f"{dataset.name} has precomputed features, and fine-tuning the image tower needs images",
            "set optimizer.image_tower_lr_scale to 0, or use a dataset with images",
        )
