"""Limits on training captions: their length, and the size of the vocabulary."""

from __future__ import annotations

from dataclasses import replace

import torch

from xmodal_cli.config import Config
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.features.mapped_rows import select_rows
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import ImageTextDataset


def check_vocabulary(config: Config) -> None:
    """Raise ConfigError if the vocabulary is limited and that of a pretrained network is used."""
    pretrained = config.text.backbone or config.captioning.language_model
    if config.data.max_vocab and pretrained:
        raise ConfigError(
            f"data.max_vocab cannot limit the vocabulary of {pretrained}, which is pretrained",
            "remove data.max_vocab, or train the text encoder from scratch",
        )


def limit_caption_words(images: ImageFeatures, max_words: int, reporter: Reporter) -> ImageFeatures:
    """The images of ``limit_words``, with their features; reports how many captions and images are left out."""
    if not max_words:
        return images
    dataset, features = limit_words(images.dataset, max_words), images.features
    _report_left_out(images.dataset, dataset, max_words, reporter)
    if features is not None and len(dataset.examples) < len(images.dataset.examples):
        kept = set(dataset.ids)
        rows = torch.tensor([row for row, name in enumerate(images.dataset.ids) if name in kept])
        features = select_rows(features, rows)
    return replace(images, dataset=dataset, features=features)


def _report_left_out(dataset: ImageTextDataset, limited: ImageTextDataset, max_words: int, reporter: Reporter) -> None:
    num_captions, num_images = len(dataset.captions), len(dataset.examples)
    captions, images = num_captions - len(limited.captions), num_images - len(limited.examples)
    without = f", and {images:,} of {num_images:,} images that have no other" if images else ""
    if captions:
        reporter.info(
            f"{captions:,} of {num_captions:,} training captions have more than {max_words} words and are left out"
            + without
        )


def limit_words(dataset: ImageTextDataset, max_words: int) -> ImageTextDataset:
    """The dataset without captions of more than ``max_words`` words, and without images that then have none.

    Words are separated by spaces; 0: no limit. Raises BadData if no caption is left.
    """
    if not max_words:
        return dataset
    shortened = (
        replace(example, captions=tuple(c for c in example.captions if len(c.split()) <= max_words))
        for example in dataset.examples
    )
    examples = tuple(example for example in shortened if example.captions)
    if not examples:
        raise BadData(
            f"all training captions of {dataset.name} have more than {max_words} words", "raise data.max_caption_words"
        )
    return replace(dataset, examples=examples)
