"""The tokens of captions in one array, two or four bytes per token, in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

CHUNK = 8192  # captions that are encoded at once: a list of tokens takes more memory than the array
Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class FlatTokens:
    """``ids`` (tokens of all captions,) uint16 or int32, perhaps a memory map; ``lengths`` (captions,) int64."""

    ids: np.ndarray
    lengths: Tensor

    @cached_property
    def _starts(self) -> Tensor:
        return self.lengths.cumsum(0) - self.lengths

    def gather(self, rows: Tensor, longest: int) -> Tensor:
        """(captions,) rows -> (captions, longest) int64, cut at ``longest`` and padded with 0."""
        positions = torch.arange(longest)[None, :]
        mask = positions < self.lengths[rows][:, None]
        indices = torch.where(mask, self._starts[rows][:, None] + positions, 0)
        return torch.from_numpy(self.ids[indices.numpy()].astype(np.int64)) * mask


def dtype_of(vocab_size: int) -> type[np.uint16] | type[np.int32]:
    """The type of the tokens of a vocabulary."""
    return np.uint16 if vocab_size <= 1 << 16 else np.int32


def encode_in_chunks(
    captions: Sequence[str], encode: Encode, vocab_size: int
) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield (tokens,) of ``CHUNK`` captions, concatenated, and the number of tokens of each."""
    dtype = dtype_of(vocab_size)
    for start in range(0, len(captions), CHUNK):
        rows = encode(captions[start : start + CHUNK])
        yield np.fromiter(chain.from_iterable(rows), dtype=dtype), [len(row) for row in rows]


def encode_flat(captions: Sequence[str], encode: Encode, vocab_size: int) -> FlatTokens:
    """The tokens of captions, in memory."""
    ids, lengths = [np.zeros(0, dtype_of(vocab_size))], list[int]()
    for part, counts in encode_in_chunks(captions, encode, vocab_size):
        ids.append(part)
        lengths += counts
    return FlatTokens(np.concatenate(ids), torch.tensor(lengths, dtype=torch.int64))
