"""A split ready for training or evaluation: its images' features and its captions as tokens or states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.backbones._families import KINDS, build_backbone
from xmodal_cli.captioning.tags import with_tags
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.models.storage.tokenizer import Tokenizer, pad
from xmodal_cli.recipes.features import features_for
from xmodal_cli.recipes.pixels import with_readable_pictures
from xmodal_cli.training.batches import TakeTokens, padded
from xmodal_cli.types import FeatureMeta, Features, ImageBackbone, ImageTextDataset, Reporter


@dataclass(frozen=True)
class Pictures:
    """The readable images of a split: their ``features`` (images, ...) fp16, or, for models that read pixels, none
    but a ``backbone`` whose eyes they are opened with.
    """

    dataset: ImageTextDataset
    meta: FeatureMeta
    features: Tensor | None
    backbone: ImageBackbone | None = None

    @property
    def paths(self) -> list[Path]:
        """The files, image by image."""
        return [e.path for e in self.dataset.examples if e.path is not None]


@dataclass(frozen=True)
class Split:
    """Pictures and captions: ``take_tokens`` gives rows of captions, ``lengths`` is (captions,) int64.

    ``prompts`` (captions,) int64: how many of a caption's tokens are given to a captioner, after the start mark.
    """

    pictures: Pictures
    take_tokens: TakeTokens
    lengths: Tensor
    prompts: Tensor | None = None


def captioned(dataset: ImageTextDataset, *splits: str) -> ImageTextDataset:
    """The images of ``splits`` that have captions. Raises BadData where there is none."""
    chosen = dataset.select(*splits)
    kept = tuple(e for e in chosen.examples if e.captions)
    if not kept:
        held = ", ".join(f"{name} ({count})" for name, count in dataset.splits.items()) or "none"
        raise BadData(
            f"{dataset.name} has no captioned images in {' or '.join(splits)}; its splits: {held}",
            "name another split: --split for eval, --set data.train_splits=... and data.val_split=... for train",
        )
    return replace(chosen, examples=kept)


def with_features(
    dataset: ImageTextDataset, settings: FeaturesConfig, device: str, precision: str, reporter: Reporter
) -> tuple[ImageTextDataset, Features]:
    """The features, and the dataset without the images that could not be read. Raises BadData if none could."""
    features = features_for(dataset, settings, device, precision, reporter)
    readable = set(features.ids)
    kept = tuple(e for e in dataset.examples if e.image_id in readable)
    if not kept:
        raise BadData(f"no image of {dataset.name} could be read", "see `xmodal data info` for the reasons")
    return replace(dataset, examples=kept), features


def read_pictures(
    dataset: ImageTextDataset, settings: FeaturesConfig, device: str, precision: str, reporter: Reporter
) -> Pictures:
    """What ``settings`` asks for, features in memory. Raises what ``features_for`` raises."""
    if settings.kind not in KINDS and any(e.feature is not None for e in dataset.examples):
        raise IncompatibleFeatures(
            f"{dataset.name} carries its own features, and this training needs its pictures",
            "set optimizer.image_tower to 0, or give data with pictures",
        )
    if settings.kind == "pixels":
        backbone = build_backbone(settings.backbone, "pixels", settings.crops)
        return Pictures(with_readable_pictures(dataset, reporter), backbone.meta, None, backbone)
    kept, features = with_features(dataset, settings, device, precision, reporter)
    values = features.values if features.values.flags.writeable else np.array(features.values)  # no memory map
    return Pictures(kept, features.meta, torch.from_numpy(values))


def token_ids(captions: Sequence[str], tokenizer: Tokenizer) -> tuple[TakeTokens, Tensor]:
    """Captions as ids, and their lengths (captions,) int64."""
    return _padded(tokenizer.encode(captions))


def whole_captions(
    captions: Sequence[str], tokenizer: Tokenizer, tags: float, seed: int
) -> tuple[TakeTokens, Tensor, Tensor]:
    """Captions as a captioner learns them, from start to end mark, a share with ``tags``; lengths, and the tags'."""
    encoded, prompts = with_tags(tokenizer, tokenizer.encode_captions(captions), tags, seed)
    return (*_padded(encoded), torch.tensor(prompts))


def _padded(encoded: Sequence[Sequence[int]]) -> tuple[TakeTokens, Tensor]:
    tokens, lengths = (torch.from_numpy(a) for a in pad(encoded))
    return padded(tokens), lengths
