"""Leaves empty and repeated captions out of training, queries and references, and counts them.

Repeated captions of the published splits of Flickr8k, Flickr30k and MS COCO are kept, see ``published_splits``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xmodal_cli.data.published_splits import find_published_splits
from xmodal_cli.types import Example, ImageTextDataset


@dataclass(frozen=True)
class CaptionCounts:
    """Captions that are left out: ``empty`` ones, and ``duplicate`` ones of the same image.

    ``published`` are the duplicate captions of published splits, which are kept.
    """

    empty: int
    duplicate: int
    published: int = 0


def clean_captions(captions: Sequence[str]) -> tuple[str, ...]:
    """The captions of an image without empty ones, and without repetitions; spaces do not count."""
    kept: dict[str, str] = {}
    for caption in captions:
        key = " ".join(caption.split())
        if key:
            kept.setdefault(key, caption)
    return tuple(kept.values())


def clean_dataset(dataset: ImageTextDataset) -> ImageTextDataset:
    """The dataset with ``clean_captions`` for each image; images whose captions are all empty remain."""
    published = find_published_splits(dataset.examples)
    examples = tuple(_clean(example, example.split in published) for example in dataset.examples)
    return replace(dataset, examples=examples)


def count_left_out(examples: Sequence[Example]) -> CaptionCounts:
    """The numbers of captions that ``clean_dataset`` leaves out."""
    empty = duplicate = kept = 0
    published = find_published_splits(examples)
    for example in examples:
        blank = sum(not caption.strip() for caption in example.captions)
        repeated = len(example.captions) - blank - len(clean_captions(example.captions))
        empty += blank
        if example.split in published:
            kept += repeated
        else:
            duplicate += repeated
    return CaptionCounts(empty, duplicate, kept)


def _clean(example: Example, keeps_duplicates: bool) -> Example:
    if keeps_duplicates:
        captions = tuple(caption for caption in example.captions if caption.strip())
    else:
        captions = clean_captions(example.captions)
    return example if len(captions) == len(example.captions) else replace(example, captions=captions)


def left_out_warnings(dataset: ImageTextDataset) -> list[str]:
    """One line for each kind of row or caption that is left out, and the remarks on the dataset."""
    counts, rows = count_left_out(dataset.examples), dataset.skipped_rows
    lines = list(dataset.notes)
    if rows:
        first = f"{rows[0].where} {rows[0].reason}"
        lines.append(f"{len(rows):,} rows of {dataset.name} cannot be used, for example: {first}")
    if counts.empty:
        lines.append(f"left out of {dataset.name}: {counts.empty:,} empty {_captions(counts.empty)}")
    if counts.duplicate:
        what = f"{_captions(counts.duplicate)} that {'repeats' if counts.duplicate == 1 else 'repeat'} another one"
        lines.append(f"left out of {dataset.name}: {counts.duplicate:,} {what} of the image")
    return lines


def _captions(count: int) -> str:
    return "caption" if count == 1 else "captions"
