"""Select splits of a dataset, and check that they have images and captions."""

from __future__ import annotations

from dataclasses import replace

from xmodal_cli.errors import BadData, UnknownName
from xmodal_cli.types import (
    ImageTextDataset,
)


def open_part(data: str, split: str | None = None, format: str | None = None) -> ImageTextDataset:
    """A dataset by name or path, or one split of it. Raises MissingData, UnknownName for a split it does not have."""
    from xmodal_cli.data.registry import load_dataset

    dataset = load_dataset(data, format)
    if split is None:
        return dataset
    if split not in dataset.splits:
        raise UnknownName.of(f"split in {dataset.name}", split, dataset.splits)
    return dataset.select(split)


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
