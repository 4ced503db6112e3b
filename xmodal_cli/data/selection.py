"""Selects splits of a dataset, and images that have captions."""

from __future__ import annotations

from dataclasses import replace

from xmodal_cli.data.caption_cleaning import clean_dataset
from xmodal_cli.errors import BadData, UnknownName
from xmodal_cli.splits import canonical_split
from xmodal_cli.types import ImageTextDataset


def load_split(data: str, split: str | None = None, format: str | None = None) -> ImageTextDataset:
    """A dataset by name or path, or one split of it; ``dev`` is ``val``.

    Raises MissingData, BadData, UnknownName for an unknown split.
    """
    from xmodal_cli.data.registry import load_dataset

    dataset = load_dataset(data, format)
    if split is None:
        return dataset
    if canonical_split(split) not in dataset.splits:
        raise UnknownName.of(f"split in {dataset.name}", split, dataset.splits)
    return dataset.select(split)


def select_captioned(dataset: ImageTextDataset, *splits: str) -> ImageTextDataset:
    """The images of ``splits`` that have captions, without empty and repeated ones. Raises BadData if there are none.

    What is trained on, asked with and compared with comes from here.
    """
    selected = clean_dataset(dataset.select(*splits))
    examples = tuple(e for e in selected.examples if e.captions)
    if not examples:
        available = ", ".join(f"{name} ({count})" for name, count in dataset.splits.items()) or "none"
        raise BadData(
            f"{dataset.name} has no captioned images in {' or '.join(splits)}; its splits: {available}",
            "use another split: --split for eval, --set data.train_splits=... and data.val_split=... for train",
        )
    return replace(selected, examples=examples)
