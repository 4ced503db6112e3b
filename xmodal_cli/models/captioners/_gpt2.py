"""GPT-2 as a network of our own: one forward pass for prefixes, whole captions and single words of a beam.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): a transformer with the norm first, learnt
places, and word vectors that are also the weights of the output. Heads have 64 coordinates, as in all its published
sizes. The names of the weights are those of ``backbones/language``. Knows no tokenizer and no image.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xmodal_cli.models.captioners._cache import SlotCache
from xmodal_cli.models.sequences import HEAD

CONTEXT = 128  # tokens, the prefix among them; the published 1024 are for articles
INITIAL = 0.02  # standard deviation of fresh weights

Caches = tuple[SlotCache, ...]


class Block(nn.Module):
    """Attention and a small network, each added to what it reads; (batch, length, width) -> the same."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.network_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network, self.network_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, past: SlotCache | None, mask: Tensor) -> tuple[Tensor, SlotCache]:
        """``mask``, broadcast to (batch, heads, length, slots), is added to the scores; slots are those of the past,
        then one for each state."""
        query, key, value = self._heads(self.attention(self.attention_norm(states)))
        cache = past.append(key, value) if past else SlotCache(key, value)
        rate = self.dropout if self.training else 0.0
        seen = scaled_dot_product_attention(query, cache.keys, cache.values, attn_mask=mask, dropout_p=rate)
        states = states + self.drop(self.attention_out(seen.transpose(1, 2).flatten(2)))
        inner = nn.functional.gelu(self.network(self.network_norm(states)), approximate="tanh")
        return states + self.drop(self.network_out(inner)), cache

    def _heads(self, joined: Tensor) -> tuple[Tensor, ...]:
        """(batch, length, 3 * width) -> three of (batch, heads, length, 64)."""
        parted = joined.view(*joined.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        return parted[0], parted[1], parted[2]


class GPT2(nn.Module):
    """States of tokens, and from the last layer's states the logits of the next tokens.

    Raises ValueError for a ``width`` above 64 that 64 does not divide.
    """

    def __init__(self, vocab_size: int, width: int, num_layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        if width > HEAD and width % HEAD:
            raise ValueError(f"GPT-2 needs a width that {HEAD} divides, not {width}")
        self.width = width
        self.words, self.places = nn.Embedding(vocab_size, width), nn.Embedding(CONTEXT, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, max(1, width // HEAD), dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self._initialize(num_layers)

    def forward(
        self, states: Tensor, first: int, past: Caches = (), mask: Tensor | None = None
    ) -> tuple[Tensor, Caches]:
        """(batch, length, width) vectors at the places from ``first`` -> the last layer's states, and the caches.

        ``mask`` is bool; without one, every state sees the past, itself and those before it.
        """
        states = self.drop(states + self._places(first, states.shape[1]))
        return self._through_blocks(states, past, self._causal(states, past) if mask is None else mask)

    def step(self, tokens: Tensor, place: int, past: Caches, mask: Tensor) -> tuple[Tensor, Caches]:
        """(images, rows) tokens, all at ``place``, (images, rows, slots) bool -> (images, rows, width), the caches."""
        states = self.words(tokens) + self._places(place, 1)
        return self._through_blocks(states, past, mask[:, None])

    def logits(self, states: Tensor) -> Tensor:
        """(..., width) states of the last layer -> (..., vocab)."""
        return nn.functional.linear(states, self.words.weight)

    def _through_blocks(self, states: Tensor, past: Caches, mask: Tensor) -> tuple[Tensor, Caches]:
        forbidden = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_fill(~mask, -torch.inf)
        added = forbidden.to(self._compute_dtype(states))  # once, where each layer would make it of the bools
        caches = []
        for block, before in zip(self.blocks, past or (None,) * len(self.blocks), strict=True):
            states, cache = block(states, before, added)
            caches.append(cache)
        return cast(Tensor, self.norm(states)), tuple(caches)

    def _compute_dtype(self, states: Tensor) -> torch.dtype:
        """What the linear layers give: attention wants its mask in the same."""
        kind = states.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype

    def _causal(self, states: Tensor, past: Caches) -> Tensor:
        length, before = states.shape[1], past[0].num_slots if past else 0
        return torch.ones(length, before + length, dtype=torch.bool, device=states.device).tril(before)

    def _places(self, first: int, length: int) -> Tensor:
        """(length, width); all places beyond the last known one count as that."""
        numbers = torch.arange(first, first + length, device=self.places.weight.device)
        return cast(Tensor, self.places(numbers.clamp(max=CONTEXT - 1)))

    def _initialize(self, num_layers: int) -> None:
        """As GPT-2 was: what is added to the states starts small, the more so the more layers add to them."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                added = name.endswith("_out.weight")
                nn.init.normal_(weight, std=INITIAL / (2 * num_layers) ** 0.5 if added else INITIAL)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
