"""Batches of captions with their images, from features held in memory. Knows tensors only.

Captions of like length go together, so that little of a batch is padding. The order of an epoch depends on the
seed and the epoch's number alone: that is what makes a resumed run repeat the interrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

POOL = 50  # batches that are sorted by length together; larger saves more padding and mixes less


@dataclass(frozen=True)
class Batch:
    """Some captions and the distinct images they belong to."""

    image_features: Tensor  # (images, dim) or (images, cells, dim)
    tokens: Tensor  # (captions, longest) int64, padded with 0
    lengths: Tensor  # (captions,) int64
    positives: Tensor  # (images, captions) bool


class CaptionBatches:
    """Every caption once an epoch, ``batch_size`` at a time; the last, smaller batch is kept."""

    def __init__(
        self,
        image_features: Tensor,
        captions: tuple[Tensor, Tensor],
        image_of_caption: Tensor,
        batch_size: int,
        seed: int,
    ) -> None:
        """``captions``: (captions, longest) padded tokens and (captions,) lengths; all but lengths on one device."""
        self._tokens, lengths = captions
        self._features, self._owner = image_features, image_of_caption
        self._lengths = lengths.cpu()
        self._batch_size, self._seed = batch_size, seed

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(len(self._lengths) / self._batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call."""
        for rows in self._plan(number):
            yield self._gather(rows)

    def _plan(self, number: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + number)
        order = torch.randperm(len(self._lengths), generator=generator)
        batches: list[Tensor] = []
        for pool in torch.split(order, POOL * self._batch_size):
            by_length = pool[self._lengths[pool].argsort(stable=True)]
            batches.extend(torch.split(by_length, self._batch_size))
        return [batches[n] for n in torch.randperm(len(batches), generator=generator)]

    def _gather(self, rows: Tensor) -> Batch:
        lengths = self._lengths[rows]
        rows = rows.to(self._tokens.device)
        images, position = torch.unique(self._owner[rows], return_inverse=True)
        positives = position[None, :] == torch.arange(len(images), device=position.device)[:, None]
        tokens = self._tokens[rows, : int(lengths.max())]
        return Batch(self._features[images], tokens, lengths.to(tokens.device), positives)
