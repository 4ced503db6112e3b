"""Captions as token ids or as states of a pretrained encoder, with or without random values in the padding."""

from __future__ import annotations

import torch
from torch import Tensor

from xmodal_cli.length_mask import length_mask
from xmodal_cli.models.tokenizer import pad

VOCAB, DIM = 30, 12
SENTENCES = [[2, 5, 6, 7, 8, 9, 10, 11, 3], [2, 3], [2, 20, 3], [2, 29, 28, 27, 3], [2, 5, 6, 3]]
STATES = torch.randn(VOCAB, DIM, generator=torch.Generator().manual_seed(5))  # of a pretrained encoder


def captions(sentences: list[list[int]], kind: str = "ids") -> tuple[Tensor, Tensor]:
    tokens, lengths = (torch.from_numpy(a) for a in pad(sentences))
    return (tokens if kind == "ids" else STATES[tokens]), lengths


def with_garbage(tokens: Tensor, lengths: Tensor) -> Tensor:
    """The captions with three more positions of padding; all padding is random."""
    generator = torch.Generator().manual_seed(3)
    shape = (len(tokens), tokens.shape[1] + 3)
    if tokens.is_floating_point():
        garbage = 100 * torch.randn(*shape, DIM, generator=generator)
    else:
        garbage = torch.randint(1, VOCAB, shape, generator=generator)
    garbage[:, : tokens.shape[1]][length_mask(lengths, tokens.shape[1])] = tokens[length_mask(lengths, tokens.shape[1])]
    return garbage
