"""Back-pointers of a beam search: the parent row and the token of each hypothesis at each step."""

from __future__ import annotations

import torch
from torch import Tensor


class BeamHistory:
    """Back-pointers of all hypotheses of all images. Stored steps are never reordered."""

    def __init__(self, num_images: int, device: torch.device) -> None:
        self._parents: list[Tensor] = []  # per step, (images, rows): the row that each row extends
        self._tokens: list[Tensor] = []
        self._start = torch.zeros(num_images, 1, dtype=torch.int64, device=device)

    def add(self, parents: Tensor, tokens: Tensor) -> None:
        """(images, rows) int64 each: the rows that are extended, and their next tokens."""
        self._parents.append(parents)
        self._tokens.append(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def tokens(self) -> Tensor:
        """(images, rows, length) int64: the tokens of the current hypotheses."""
        num_rows = self._tokens[-1].shape[1] if self._tokens else 1
        rows = torch.arange(num_rows, device=self._start.device).expand(len(self._start), -1)
        return self.trace(rows, torch.full_like(rows, len(self._tokens)))[0]

    def trace(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(images, n) rows at step ``lengths`` -> their tokens and their parent rows, (images, n, longest).

        Both are padded with 0 after the length of a caption.
        """
        tokens = rows.new_zeros((*rows.shape, len(self._tokens)))
        parents = torch.zeros_like(tokens)
        for step in reversed(range(len(self._tokens))):
            mask = step < lengths
            index = rows.where(mask, 0)
            tokens[..., step] = self._tokens[step].gather(1, index).where(mask, 0)
            parent = self._parents[step].gather(1, index).where(mask, 0)
            parents[..., step] = parent
            rows = parent.where(mask, rows)
        return tokens, parents
