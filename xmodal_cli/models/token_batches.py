"""Batches of captions: token ids or text states, padded on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xmodal_cli.models.tokenizer import Tokenizer, pad


def token_ids(captions: Sequence[str], tokenizer: Tokenizer) -> tuple[GatherTokens, Tensor]:
    """Captions as ids, and their lengths (captions,) int64."""
    return pad_tokens(tokenizer.encode(captions))


def pad_tokens(encoded: Sequence[Sequence[int]]) -> tuple[GatherTokens, Tensor]:
    """Token ids of each caption -> the gather function of the padded matrix, and (captions,) int64 lengths."""
    tokens, lengths = (torch.from_numpy(a) for a in pad(encoded))
    return padded(tokens), lengths


GatherTokens = Callable[[Tensor, int], Tensor]  # rows of captions, the longest among them -> (captions, longest, ...)


def padded(tokens: Tensor) -> GatherTokens:
    """Batches from (captions, longest) ids, on any device."""
    return lambda rows, longest: tokens[rows.to(tokens.device), :longest]


def ragged(states: Tensor, lengths: Tensor) -> GatherTokens:
    """Batches from (tokens of all captions, dim) states one after another, which may be a memory map."""
    starts = lengths.cumsum(0) - lengths

    def take(rows: Tensor, longest: int) -> Tensor:
        places = torch.arange(longest)[None, :]
        held = places < lengths[rows][:, None]
        where = torch.where(held, starts[rows][:, None] + places, 0)
        taken = states[where.flatten().to(states.device)].view(len(rows), longest, -1)
        return taken * held[..., None].to(taken)

    return take
