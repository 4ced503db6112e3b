"""Batches of captions with their images, from features in memory.

Captions of similar length share a batch, which keeps padding small. The order of an epoch depends only on the seed and
the epoch's number, so a resumed run repeats the batches of an interrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xmodal_cli.models.token_batches import GatherTokens

Shard = Callable[[Tensor], Tensor]  # (n,) -> the part of this process
POOL = 50  # batches that are sorted by length together; a larger pool has less padding and less random batches


@dataclass(frozen=True)
class Batch:
    """Captions and the distinct images they belong to."""

    image_features: Tensor  # (images, dim) or (images, cells, dim)
    tokens: (
        Tensor  # (captions, longest) int64, padded with 0; (captions, longest, dim) states; or (images, tags) targets
    )
    lengths: Tensor  # (captions,) int64
    positives: Tensor  # (images, captions) bool
    images: Tensor | None = None  # (images,) int64, on the CPU: positions in the dataset
    captions: Tensor | None = None  # (captions,) int64, on the CPU: positions in the dataset


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
        batches: list[Tensor] = []
        for pool in torch.split(order, POOL * self.batch_size):
            by_length = pool[self.lengths[pool].argsort(stable=True)]
            batches.extend(torch.split(by_length, self.batch_size))
        return batches

    def _group_by_image(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Images in random order, as many per batch as ``batch_size`` captions allow, at least one."""
        captions = rows[self.image_of_caption[rows].argsort(stable=True)]  # grouped by image
        counts = torch.bincount(self.image_of_caption[rows])
        captions_of = torch.split(captions, counts.tolist())
        batches: list[list[Tensor]] = []
        free = 0  # captions that the current batch can still take
        for image in torch.randperm(len(counts), generator=generator).tolist():
            if not counts[image]:
                continue
            if int(counts[image]) > free:
                batches.append([])
                free = self.batch_size
            batches[-1].append(captions_of[image])
            free -= int(counts[image])
        return [torch.cat(parts) for parts in batches]


def _whole(rows: Tensor) -> Tensor:
    return rows


class CaptionBatches:
    """The batches of a plan, with features and tokens."""

    def __init__(
        self, image_features: Tensor, gather_tokens: GatherTokens, plan: BatchPlan, shard: Shard = _whole
    ) -> None:
        """``image_features`` (images, ...), on the device of the batches.

        ``shard`` selects the images and the captions of a batch that this process encodes; ``positives``, ``images``
        and ``captions`` are those of the whole batch.
        """
        self._features, self._gather_tokens, self._plan, self._shard = image_features, gather_tokens, plan, shard

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return len(self._plan)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call."""
        for rows in self._plan.epoch(number):
            yield self._gather(rows)

    def _gather(self, rows: Tensor) -> Batch:
        images, positives = in_batch_positives(self._plan.image_of_caption[rows])
        own_images, own_rows = self._shard(images), self._shard(rows)
        lengths = self._plan.lengths[own_rows]
        tokens = self._gather_tokens(own_rows, int(lengths.max()))
        features = self._features[own_images.to(self._features.device)]
        tokens, lengths, positives = (part.to(features.device) for part in (tokens, lengths, positives))
        return Batch(features, tokens, lengths, positives, images, rows)


def in_batch_positives(image_of_caption: Tensor) -> tuple[Tensor, Tensor]:
    """(captions,) images of captions -> the distinct images (images,), the positives (images, captions) bool."""
    images, position = torch.unique(image_of_caption, return_inverse=True)
    return images, position[None, :] == torch.arange(len(images))[:, None]


class ImageBatches:
    """Batches of images with one row of targets each, every image once per epoch in random order."""

    def __init__(self, image_features: Tensor, targets: Tensor, batch_size: int, seed: int) -> None:
        """``image_features`` (images, ...) and ``targets`` (images, tags), on the device of the batches."""
        self._features, self._targets = image_features, targets
        self._batch_size, self._seed = batch_size, seed

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return (len(self._features) + self._batch_size - 1) // self._batch_size

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call; ``tokens`` are the targets."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        for images in torch.split(torch.randperm(len(self._features), generator=generator), self._batch_size):
            rows = images.to(self._features.device)
            ones = torch.ones(len(images), dtype=torch.int64)
            positives = torch.eye(len(images), dtype=torch.bool)
            yield Batch(self._features[rows], self._targets[rows], ones, positives, images, images)
