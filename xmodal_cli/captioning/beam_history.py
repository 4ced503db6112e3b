"""Which row of a beam went on from which, and with which word. Knows nothing of scores."""

from __future__ import annotations

import torch
from torch import Tensor


class BeamHistory:
    """Back-pointers of all images' rows: nothing that was written is ever moved."""

    def __init__(self, num_images: int, device: torch.device) -> None:
        self._parents: list[Tensor] = []  # for each word, (images, rows): the row before it
        self._words: list[Tensor] = []
        self._start = torch.zeros(num_images, 1, dtype=torch.int64, device=device)

    def add(self, parents: Tensor, words: Tensor) -> None:
        """(images, rows) int64 each: the rows that are gone on from, and their next words."""
        self._parents.append(parents)
        self._words.append(words)

    def __len__(self) -> int:
        return len(self._words)

    def words(self) -> Tensor:
        """(images, rows, length) int64: what the present rows have written."""
        rows = self._words[-1].shape[1] if self._words else 1
        present = torch.arange(rows, device=self._start.device).expand(len(self._start), -1)
        return self.trace(present, torch.full_like(present, len(self._words)))[0]

    def trace(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(images, n) rows as they were after that many words -> words and the rows before them, (images, n, longest).

        Both are 0 beyond a caption's length.
        """
        words = rows.new_zeros((*rows.shape, len(self._words)))
        trail = torch.zeros_like(words)
        for place in reversed(range(len(self._words))):
            written = place < lengths
            at = rows.where(written, 0)
            words[..., place] = self._words[place].gather(1, at).where(written, 0)
            before = self._parents[place].gather(1, at).where(written, 0)
            trail[..., place] = before
            rows = before.where(written, rows)
        return words, trail
