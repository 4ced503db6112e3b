"""What the word-based text encoders share: the embedding table and picking the last state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def word_embedding(vocab_size: int, word_dim: int) -> nn.Embedding:
    """A table of (vocab_size, word_dim), uniform in +-0.1 as in VSE; row 0, the padding, is zero and stays so."""
    table = nn.Embedding(vocab_size, word_dim, padding_idx=0)
    nn.init.uniform_(table.weight, -0.1, 0.1)
    with torch.no_grad():
        table.weight[0].zero_()
    return table


def last_state(states: Tensor, lengths: Tensor) -> Tensor:
    """(captions, longest, dim) -> (captions, dim): the state at each caption's own last token.

    A forward recurrence has not seen what stands to the right, so padding cannot leak in.
    """
    last = (lengths.to(states.device) - 1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
    return states.gather(1, last).squeeze(1)
