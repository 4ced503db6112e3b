"""Gather functions for batches of captions, as token ids or as states of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xmodal_cli.models.flat_tokens import encode_flat
from xmodal_cli.models.tokenizer import Tokenizer


def token_ids(captions: Sequence[str], tokenizer: Tokenizer) -> tuple[GatherTokens, Tensor]:
    """Captions -> the gather function of their token ids, and (captions,) int64 lengths."""
    tokens = encode_flat(captions, tokenizer.encode, tokenizer.vocab_size)
    return tokens.gather, tokens.lengths


GatherTokens = Callable[[Tensor, int], Tensor]  # caption indices, max length -> (captions, longest, ...)


def padded(tokens: Tensor) -> GatherTokens:
    """Gather from (captions, longest) token ids, on any device."""
    return lambda rows, longest: tokens[rows.to(tokens.device), :longest]


def ragged(states: Tensor, lengths: Tensor) -> GatherTokens:
    """Gather from (tokens of all captions, dim) states, concatenated; they may be a memory map."""
    starts = lengths.cumsum(0) - lengths

    def gather(rows: Tensor, longest: int) -> Tensor:
        positions = torch.arange(longest)[None, :]
        mask = positions < lengths[rows][:, None]
        indices = torch.where(mask, starts[rows][:, None] + positions, 0)
        gathered = states[indices.flatten().to(states.device)].view(len(rows), longest, -1)
        return gathered * mask[..., None].to(gathered)

    return gather
