"""Captions that came to an end during a search, and whether others may still be better."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from xmodal_cli.types import Decoding


class FinishedBatch(NamedTuple):
    """(images, n) each: captions, by the row that wrote them and their number of words; score -inf where is none."""

    scores: Tensor
    log_probs: Tensor
    rows: Tensor
    lengths: Tensor
    ended: Tensor  # 1 or 0


class Finished:
    """The best ``num`` captions of each image so far."""

    def __init__(self, settings: Decoding) -> None:
        self.num, self.power = settings.num, settings.length_penalty
        self._most_tokens = settings.max_length + 1
        self._best: FinishedBatch | None = None

    def offer(self, log_probs: Tensor, rows: Tensor, num_words: int, ended: bool) -> None:
        """(images, n) captions that all have ``num_words``; the log-probability is -inf where there is none."""
        scores = log_probs / (num_words + ended) ** self.power
        offers = (scores, log_probs, rows, torch.full_like(rows, num_words), torch.full_like(rows, int(ended)))
        all_ = offers if self._best is None else [torch.cat(pair, 1) for pair in zip(self._best, offers, strict=True)]
        order = all_[0].argsort(dim=1, descending=True, stable=True)[:, : self.num]  # of equals, the first that came
        self._best = FinishedBatch(*(part.gather(1, order) for part in all_))

    @property
    def best(self) -> FinishedBatch:
        """Best first, up to ``num``. Something has to be offered first."""
        assert self._best is not None
        return self._best

    def is_done(self, totals: Tensor) -> Tensor:
        """(images, rows) log-probabilities of what is still written -> (images,) bool: none of it can do better.

        What is written can only lose probability, and is divided by the length of the longest caption at most.
        """
        bound: Tensor = totals.amax(1) / float(self._most_tokens**self.power)
        full = self.best.scores.shape[1] == self.num
        return self.best.scores[:, -1] >= bound if full else bound == -torch.inf
