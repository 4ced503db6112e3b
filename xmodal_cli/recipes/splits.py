"""A split ready for training or evaluation: its images' features and its captions as tokens, in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.errors import BadData
from xmodal_cli.models.storage.tokenizer import Tokenizer, pad
from xmodal_cli.recipes.features import features_for
from xmodal_cli.types import Features, ImageTextDataset, Reporter


@dataclass(frozen=True)
class Split:
    """``features`` (images, ...) fp16, ``tokens`` (captions, longest) int64, ``lengths`` (captions,) int64."""

    dataset: ImageTextDataset
    features: Tensor
    tokens: Tensor
    lengths: Tensor


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


def in_memory(dataset: ImageTextDataset, features: Features, tokenizer: Tokenizer) -> Split:
    """Tokens beside features; features that are a memory map are read in once."""
    tokens, lengths = (torch.from_numpy(a) for a in pad(tokenizer.encode(dataset.captions)))
    values = features.values if features.values.flags.writeable else np.array(features.values)
    return Split(dataset, torch.from_numpy(values), tokens, lengths)
