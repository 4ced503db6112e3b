"""Batches of captions with their images, from features in memory or on disk.

Captions of similar length share a batch, which keeps padding small. The order of an epoch depends only on the seed and
the epoch's number, so a resumed run repeats the batches of an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from xmodal_cli.models.token_batches import GatherTokens
from xmodal_cli.training.windows import Blocks, prefetch

Part = Callable[[int], slice]  # a number of rows -> those of this process, which may be none
POOL = 50  # batches that are sorted by length together; a larger pool has less padding and less random batches


@dataclass(frozen=True)
class Batch:
    """Captions and the distinct images they belong to."""

    image_features: Tensor  # (images, dim) or (images, cells, dim)
    tokens: (
        Tensor  # (captions, longest) int64, padded with 0; (captions, longest, dim) states; or (images, tags) targets
    )
    lengths: Tensor  # (captions,) int64
    image_of_caption: Tensor  # (captions,) int64: the image of each caption, as a position in the batch
    images: Tensor | None = None  # (images,) int64, on the CPU: positions in the dataset
    captions: Tensor | None = None  # (captions,) int64, on the CPU: positions in the dataset
    is_stand_in: bool = False  # no part of the global batch: processes without a part have one that counts nothing
    num_captions: int = 0  # of the global batch, if this is a part of it with its own ``image_of_caption``

    @property
    def size(self) -> int:
        """The number of captions of the global batch."""
        return self.num_captions or len(self.image_of_caption)

    @property
    def num_images(self) -> int:
        """The number of distinct images."""
        return len(self.image_features) if self.images is None else len(self.images)

    @property
    def positives(self) -> Tensor:
        """(images, captions) bool: whether they belong together."""
        images = torch.arange(self.num_images, device=self.image_of_caption.device)
        return self.image_of_caption[None, :] == images[:, None]


class EpochBatches(Protocol):
    """Batches that depend only on the epoch's number."""

    def __len__(self) -> int:
        """Number of batches per epoch."""
        ...

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call."""
        ...


@dataclass(frozen=True)
class BatchPlan:
    """The captions of each batch: every caption once per epoch; the last, smaller batch is kept.

    With ``group_captions_by_image``, all captions of an image share a batch, so each image is read once per epoch; used
    when images are encoded from pixels. With ``one_caption_per_image``, an epoch has one random caption of each image.
    """

    lengths: Tensor  # (captions,) int64, on the CPU
    image_of_caption: Tensor  # (captions,) int64, on the CPU
    batch_size: int
    seed: int
    group_captions_by_image: bool = False
    one_caption_per_image: bool = False
    blocks: Blocks | None = None  # of features on disk: batches are drawn from windows of random blocks

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return len(self.epoch(0))

    def epoch(self, number: int) -> list[Tensor]:
        """The captions (positions) of each batch of epoch ``number``, the same at each call."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rows = self._sample_one_per_image(generator) if self.one_caption_per_image else torch.arange(len(self.lengths))
        batches = (
            self._group_by_image(rows, generator)
            if self.group_captions_by_image
            else self._group_by_length(rows, generator)
        )
        if self.blocks is not None:
            return batches
        return [batches[n] for n in torch.randperm(len(batches), generator=generator)]

    def _sample_one_per_image(self, generator: torch.Generator) -> Tensor:
        """One random caption of each image that has any, ascending."""
        shuffled = torch.randperm(len(self.image_of_caption), generator=generator)
        images, first = self.image_of_caption[shuffled].sort(stable=True)
        is_first = torch.ones_like(images, dtype=torch.bool)
        is_first[1:] = images[1:] != images[:-1]
        return shuffled[first[is_first]].sort().values

    def _group_by_length(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        order = rows[torch.randperm(len(rows), generator=generator)]
        if self.blocks is not None:
            order = order[self.blocks.windows(generator)[self.image_of_caption[order]].argsort(stable=True)]
        batches: list[Tensor] = []
        for pool in torch.split(order, POOL * self.batch_size):
            by_length = pool[self.lengths[pool].argsort(stable=True)]
            parts = torch.split(by_length, self.batch_size)
            in_order = range(len(parts)) if self.blocks is None else torch.randperm(len(parts), generator=generator)
            batches.extend(parts[n] for n in in_order)
        return batches

    def _group_by_image(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Images in random order, as many per batch as ``batch_size`` captions allow, at least one."""
        captions = rows[self.image_of_caption[rows].argsort(stable=True)]  # grouped by image
        counts = torch.bincount(self.image_of_caption[rows])
        captions_of = torch.split(captions, counts.tolist())
        batches: list[list[Tensor]] = []
        free = 0  # captions that the current batch can still take
        order = torch.randperm(len(counts), generator=generator)
        if self.blocks is not None:
            order = order[self.blocks.windows(generator)[order].argsort(stable=True)]
        for image in order.tolist():
            if not counts[image]:
                continue
            if int(counts[image]) > free:
                batches.append([])
                free = self.batch_size
            batches[-1].append(captions_of[image])
            free -= int(counts[image])
        return [torch.cat(parts) for parts in batches]


def _all_rows(count: int) -> slice:
    return slice(count)


class CaptionBatches:
    """The batches of a plan, with features and tokens."""

    def __init__(
        self,
        image_features: Any,
        gather_tokens: GatherTokens,
        plan: BatchPlan,
        part: Part = _all_rows,
        split_images: bool = False,
    ) -> None:
        """``image_features`` (images, ...), a tensor on the device of the batches, or rows on disk.

        ``part`` selects the images and the captions of a batch that this process encodes; ``image_of_caption``,
        ``images`` and ``captions`` are those of the whole batch. With ``split_images`` it selects images, and a batch
        has these with all of their captions, for losses that are sums over captions.
        """
        self._features, self._gather_tokens, self._plan = image_features, gather_tokens, plan
        self._part, self._split_images = part, split_images

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return len(self._plan)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call."""
        batches = self._epoch(number)
        return batches if self._plan.blocks is None else prefetch(batches)

    def _epoch(self, number: int) -> Iterator[Batch]:
        for rows in self._plan.epoch(number):
            yield self._gather_images(rows) if self._split_images else self._gather(rows, self._part)

    def _gather_images(self, rows: Tensor) -> Batch:
        """The part of a batch that has the images of this process, with their captions."""
        image_of_caption = self._plan.image_of_caption[rows]
        images = torch.unique(image_of_caption)
        own = images[self._part(len(images))]
        if len(own):
            return replace(self._gather(rows[torch.isin(image_of_caption, own)]), num_captions=len(rows))
        batch = self._gather(rows[-1:])
        return replace(batch, lengths=torch.zeros_like(batch.lengths), is_stand_in=True, num_captions=len(rows))

    def _gather(self, rows: Tensor, part: Part = _all_rows) -> Batch:
        images, image_of_caption = torch.unique(self._plan.image_of_caption[rows], return_inverse=True)
        own_images, own_rows = _select(images, part), _select(rows, part)
        lengths = self._plan.lengths[own_rows]
        tokens = self._gather_tokens(own_rows, int(lengths.max()))
        features = self._features[own_images.to(self._features.device)]
        tokens, lengths, image_of_caption = (part.to(features.device) for part in (tokens, lengths, image_of_caption))
        return Batch(features, tokens, lengths, image_of_caption, images, rows)


def _select(rows: Tensor, part: Part) -> Tensor:
    """The rows of a part; one row stands in for an empty part, because no network encodes nothing."""
    own = rows[part(len(rows))]
    return own if len(own) else rows[-1:]


class ImageBatches:
    """Batches of images with one row of targets each, every image once per epoch in random order."""

    def __init__(
        self,
        image_features: Any,
        targets: Tensor,
        batch_size: int,
        seed: int,
        part: Part = _all_rows,
        blocks: Blocks | None = None,
    ) -> None:
        """``image_features`` (images, ...), a tensor or rows on disk with their ``blocks``; ``targets`` (images, tags).

        Both are on the device of the batches. ``part`` selects the image features of a batch that this process encodes,
        perhaps none: one that stands in would count in batch normalization. The targets are those of all.
        """
        self._features, self._targets, self._part = image_features, targets, part
        self._batch_size, self._seed, self._blocks = batch_size, seed, blocks

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return (len(self._features) + self._batch_size - 1) // self._batch_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call; ``tokens`` are the targets."""
        batches = self._epoch(number)
        return batches if self._blocks is None else prefetch(batches)

    def _epoch(self, number: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        order = torch.randperm(len(self._features), generator=generator)
        if self._blocks is not None:
            order = order[self._blocks.windows(generator)[order].argsort(stable=True)]
        for images in torch.split(order, self._batch_size):
            rows = images.to(self._features.device)
            own = rows[self._part(len(rows))]
            ones = torch.ones(len(images), dtype=torch.int64)
            yield Batch(self._features[own], self._targets[rows], ones, torch.arange(len(images)), images, images)
