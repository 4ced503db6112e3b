"""What ``xmodal data`` reports about a dataset: counts, image sizes, unreadable images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from xmodal_cli.data import left_out
from xmodal_cli.data.caption_cleaning import clean_dataset
from xmodal_cli.data.images import ImageReader
from xmodal_cli.data.omissions import Omissions, find_omissions
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.result_json import INLINE
from xmodal_cli.types import FeatureSource, ImageTextDataset, Unreadable


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset; ``images`` and ``captions`` are counts, ``splits`` the images per split."""

    name: str
    format: str
    path: Path
    images: int
    captions: int
    splits: dict[str, int]
    omissions: Omissions = field(metadata=INLINE)


@dataclass(frozen=True)
class Spread:
    """Minimum, mean and maximum of a number per image or caption."""

    min: int
    mean: float
    max: int


@dataclass(frozen=True)
class ImageSize:
    """A size, ``WIDTHxHEIGHT`` in pixels, and the number of images that have it."""

    size: str
    images: int


@dataclass(frozen=True)
class DatasetInfo:
    """A summary with details.

    ``image_sizes`` are the five most frequent of ``distinct_sizes``; ``precomputed``: features instead of images, and
    ``features_from`` their backbone if it was declared.
    ``left_out`` are the unreadable images by category, see ``left_out.to_json``.
    """

    summary: DatasetSummary = field(metadata=INLINE)
    captions_per_image: Spread
    words_per_caption: Spread
    image_sizes: tuple[ImageSize, ...]
    distinct_sizes: int
    precomputed: bool
    features_from: FeatureSource | None
    unreadable: tuple[Unreadable, ...]
    left_out: dict[str, Any]  # the unreadable images, also counted by category


def summarize(dataset: ImageTextDataset) -> DatasetSummary:
    """Name, format, path and counts."""
    counts = (len(dataset.examples), len(dataset.captions), dataset.splits)
    return DatasetSummary(dataset.name, dataset.format, dataset.source, *counts, find_omissions(dataset))


def describe_dataset(dataset: ImageTextDataset, reporter: Reporter = SILENT, decode: bool = False) -> DatasetInfo:
    """The summary, captions per image, image sizes and unreadable images.

    Reads the header of every image. ``decode`` decodes every image, which finds truncated ones.
    """
    sizes, unreadable = _read_sizes(dataset, reporter, decode)
    usable = clean_dataset(dataset)
    captions = [len(example.captions) for example in usable.examples]
    words = [len(caption.split()) for caption in usable.captions]
    return DatasetInfo(
        summarize(dataset),
        captions_per_image=_spread(captions),
        words_per_caption=_spread(words),
        image_sizes=tuple(ImageSize(f"{w}x{h}", count) for (w, h), count in sizes.most_common(5)),
        distinct_sizes=len(sizes),
        precomputed=dataset.has_features,
        features_from=dataset.features_from,
        unreadable=tuple(unreadable),
        left_out=left_out.to_json(unreadable),
    )


def _read_sizes(
    dataset: ImageTextDataset, reporter: Reporter, decode: bool
) -> tuple[Counter[tuple[int, int]], list[Unreadable]]:
    """The number of images per (width, height), and the unreadable images. Reads images in parallel."""
    paths = [example.path for example in dataset.examples if example.path is not None]
    sizes: Counter[tuple[int, int]] = Counter()
    unreadable: list[Unreadable] = []
    with ThreadPoolExecutor(8) as pool, reporter.task("reading image sizes", len(paths), "images") as task:
        for size in pool.map(partial(_read_size, reader=ImageReader(strict=decode), decode=decode), paths):
            if isinstance(size, Unreadable):
                unreadable.append(size)
            else:
                sizes[size] += 1
            task.advance()
    return sizes, unreadable


def _read_size(path: Path, reader: ImageReader, decode: bool) -> tuple[int, int] | Unreadable:
    try:
        if decode:
            reader.open(path, max_side=1)  # a JPEG at its smallest scale
        return reader.size(path)
    except BadData as error:
        return Unreadable.of(path, error)


def _spread(counts: Sequence[int]) -> Spread:
    mean = round(sum(counts) / len(counts), 2) if counts else 0.0
    return Spread(min(counts, default=0), mean, max(counts, default=0))
