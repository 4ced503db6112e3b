"""Recognizes the splits of Flickr8k, Flickr30k and MS COCO that papers report on, by their sizes.

Their captions are all kept, also repeated ones, so that scores are comparable: 5,000 captions in the test splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from xmodal_cli.types import Example

PUBLISHED = frozenset(
    (
        *(("train", 6_000, 30_000), ("val", 1_000, 5_000), ("test", 1_000, 5_000)),  # Flickr8k
        *(("train", 29_000, 145_000), ("val", 1_014, 5_070)),  # Flickr30k; its test split has the size of Flickr8k's
        *(("train", 82_783, 414_113), ("restval", 30_504, 152_634)),  # MS COCO
        *(("val", 5_000, 25_010), ("test", 5_000, 25_010), ("val", 40_504, 202_654)),
    )
)


def find_published_splits(examples: Iterable[Example]) -> frozenset[str]:
    """The names of the splits among ``examples`` that have the size of a published one."""
    images: Counter[str] = Counter()
    captions: Counter[str] = Counter()
    for example in examples:
        images[example.split] += 1
        captions[example.split] += len(example.captions)
    return frozenset(name for name in images if (name, images[name], captions[name]) in PUBLISHED)
