"""Batches of captions with their images, from features held in memory. Knows tensors only.

Captions of like length go together, so that little of a batch is padding. The order of an epoch depends on the
seed and the epoch's number alone: that is what makes a resumed run repeat the interrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xmodal_cli.models.token_batches import GatherTokens

POOL = 50  # batches that are sorted by length together; larger saves more padding and mixes less


@dataclass(frozen=True)
class Batch:
    """Some captions and the distinct images they belong to."""

    image_features: Tensor  # (images, dim) or (images, cells, dim)
    tokens: Tensor  # (captions, longest) int64, padded with 0; or (captions, longest, dim) states of an encoder
    lengths: Tensor  # (captions,) int64
    positives: Tensor  # (images, captions) bool
    images: Tensor | None = None  # (images,) int64, on the CPU: their numbers in the dataset
    captions: Tensor | None = None  # (captions,) int64, on the CPU: theirs


@dataclass(frozen=True)
class BatchPlan:
    """Which captions go together: every caption once an epoch; the last, smaller batch is kept.

    With ``whole_images``, the captions of an image are all in one batch: each image is needed once an epoch, which is
    what a network that turns pixels into features wants. With ``one_caption``, an epoch has one caption of each image,
    drawn anew.
    """

    lengths: Tensor  # (captions,) int64, on the CPU
    image_of_caption: Tensor  # (captions,) int64, on the CPU
    batch_size: int
    seed: int
    whole_images: bool = False
    one_caption: bool = False

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self.epoch(0))

    def epoch(self, number: int) -> list[Tensor]:
        """The caption numbers of each batch of epoch ``number``, the same at each call."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        rows = self._one_of_each(generator) if self.one_caption else torch.arange(len(self.lengths))
        batches = self._by_image(rows, generator) if self.whole_images else self._by_length(rows, generator)
        return [batches[n] for n in torch.randperm(len(batches), generator=generator)]

    def _one_of_each(self, generator: torch.Generator) -> Tensor:
        """One caption number of each image that has any, ascending."""
        shuffled = torch.randperm(len(self.image_of_caption), generator=generator)
        images, first = self.image_of_caption[shuffled].sort(stable=True)
        is_first = torch.ones_like(images, dtype=torch.bool)
        is_first[1:] = images[1:] != images[:-1]
        return shuffled[first[is_first]].sort().values

    def _by_length(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        order = rows[torch.randperm(len(rows), generator=generator)]
        batches: list[Tensor] = []
        for pool in torch.split(order, POOL * self.batch_size):
            by_length = pool[self.lengths[pool].argsort(stable=True)]
            batches.extend(torch.split(by_length, self.batch_size))
        return batches

    def _by_image(self, rows: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Images in random order, as many to a batch as ``batch_size`` captions allow, one at least."""
        captions = rows[self.image_of_caption[rows].argsort(stable=True)]  # image by image
        counts = torch.bincount(self.image_of_caption[rows])
        of_image = torch.split(captions, counts.tolist())
        batches: list[list[Tensor]] = []
        room = 0
        for image in torch.randperm(len(counts), generator=generator).tolist():
            if not counts[image]:
                continue
            if int(counts[image]) > room:
                batches.append([])
                room = self.batch_size
            batches[-1].append(of_image[image])
            room -= int(counts[image])
        return [torch.cat(parts) for parts in batches]


class CaptionBatches:
    """The batches of a plan, ``batch_size`` captions at a time."""

    def __init__(self, image_features: Tensor, gather_tokens: GatherTokens, plan: BatchPlan) -> None:
        """``image_features`` (images, ...), on the device where batches are wanted; see ``padded`` and ``ragged``."""
        self._features, self._take, self._plan = image_features, gather_tokens, plan

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._plan)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call."""
        for rows in self._plan.epoch(number):
            yield self._gather(rows)

    def _gather(self, rows: Tensor) -> Batch:
        images, positives = in_batch_positives(self._plan.image_of_caption[rows])
        lengths = self._plan.lengths[rows]
        tokens = self._take(rows, int(lengths.max()))
        features = self._features[images.to(self._features.device)]
        tokens, lengths, positives = (part.to(features.device) for part in (tokens, lengths, positives))
        return Batch(features, tokens, lengths, positives, images, rows)


def in_batch_positives(image_of_caption: Tensor) -> tuple[Tensor, Tensor]:
    """(captions,) image numbers -> the distinct ones (images,), and the positives (images, captions) bool."""
    images, position = torch.unique(image_of_caption, return_inverse=True)
    return images, position[None, :] == torch.arange(len(images))[:, None]
