"""A split ready for training or evaluation: its images' features and its captions as tokens or states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.backbones.image_backbones import KINDS, build_backbone
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.unreadable_images import drop_unreadable_images
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.features.cache import features_for
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import FeatureMeta, Features, ImageBackbone, ImageTextDataset


@dataclass(frozen=True)
class ImageFeatures:
    """The readable images of a split: their ``features`` (images, ...) fp16 or, for models that read pixels, None and
    the ``backbone`` whose preprocessing they need.
    """

    dataset: ImageTextDataset
    meta: FeatureMeta
    features: Tensor | None
    backbone: ImageBackbone | None = None

    @property
    def paths(self) -> list[Path]:
        """The image files, in the order of ``features``."""
        return [e.path for e in self.dataset.examples if e.path is not None]


def with_features(
    dataset: ImageTextDataset, settings: FeaturesConfig, compute: Compute, reporter: Reporter
) -> tuple[ImageTextDataset, Features]:
    """The features, and the dataset without the images that could not be read. Raises BadData if none could."""
    features = features_for(dataset, settings, compute, reporter)
    readable = set(features.ids)
    kept = tuple(e for e in dataset.examples if e.image_id in readable)
    if not kept:
        raise BadData(f"no image of {dataset.name} could be read", "see `xmodal data info` for the reasons")
    return replace(dataset, examples=kept), features


def read_image_features(
    dataset: ImageTextDataset, settings: FeaturesConfig, compute: Compute, reporter: Reporter
) -> ImageFeatures:
    """What ``settings`` asks for, features in memory. Raises what ``features_for`` raises."""
    if settings.kind not in KINDS and any(e.feature is not None for e in dataset.examples):
        raise IncompatibleFeatures(
            f"{dataset.name} carries its own features, and this training needs its pictures",
            "set optimizer.image_tower_lr_scale to 0, or give data with pictures",
        )
    if settings.kind == "pixels":
        backbone = build_backbone(settings.backbone, "pixels", settings.crops)
        return ImageFeatures(drop_unreadable_images(dataset, reporter), backbone.meta, None, backbone)
    kept, features = with_features(dataset, settings, compute, reporter)
    values = features.values if features.values.flags.writeable else np.array(features.values)  # no memory map
    return ImageFeatures(kept, features.meta, torch.from_numpy(values))
