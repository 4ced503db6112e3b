"""GPT-2: one implementation for prefixes, whole captions and single decoding steps of a beam.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): a pre-norm transformer with learned
position embeddings and tied input and output embeddings. The head dimension is 64, as in all published sizes.
``backbones/language`` converts weights to these parameter names.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from xmodal_cli.models.captioners._cache import SlotCache
from xmodal_cli.models.sequences import HEAD_DIM

CONTEXT_LENGTH = 128  # tokens, including the prefix; captions do not need the published 1024
INIT_STD = 0.02  # standard deviation of new weights

Caches = tuple[SlotCache, ...]


class Block(nn.Module):
    """Self-attention and an MLP with residual connections; (batch, length, width) -> (batch, length, width)."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.network_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network, self.network_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, states: Tensor, past: SlotCache | None, mask: Tensor) -> tuple[Tensor, SlotCache]:
        """``mask``, broadcast to (batch, heads, length, slots), is added to the attention scores; slots are those of
        ``past``, then one per state."""
        query, key, value = self._split_heads(self.attention(self.attention_norm(states)))
        cache = past.append(key, value) if past else SlotCache(key, value)
        rate = self.dropout if self.training else 0.0
        attended = scaled_dot_product_attention(query, cache.keys, cache.values, attn_mask=mask, dropout_p=rate)
        states = states + self.drop(self.attention_out(attended.transpose(1, 2).flatten(2)))
        inner = nn.functional.gelu(self.network(self.network_norm(states)), approximate="tanh")
        return states + self.drop(self.network_out(inner)), cache

    def _split_heads(self, joined: Tensor) -> tuple[Tensor, ...]:
        """(batch, length, 3 * width) -> three of (batch, heads, length, 64)."""
        parts = joined.view(*joined.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        return parts[0], parts[1], parts[2]


class GPT2(nn.Module):
    """Computes hidden states, and from those of the last layer the logits of the next tokens.

    Raises ValueError for a ``width`` above 64 that is not a multiple of 64.
    """

    def __init__(self, vocab_size: int, width: int, num_layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        if width > HEAD_DIM and width % HEAD_DIM:
            raise ValueError(f"the width of GPT-2 must be a multiple of {HEAD_DIM}, not {width}")
        self.width = width
        self.words, self.places = nn.Embedding(vocab_size, width), nn.Embedding(CONTEXT_LENGTH, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, max(1, width // HEAD_DIM), dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self._initialize(num_layers)

    def forward(
        self, states: Tensor, first: int, past: Caches = (), mask: Tensor | None = None
    ) -> tuple[Tensor, Caches]:
        """(batch, length, width) embeddings at positions from ``first`` -> states of the last layer, and the caches.

        ``mask`` is bool; the default is causal: every state attends to ``past``, earlier states and itself.
        """
        states = self.drop(states + self._embed_positions(first, states.shape[1]))
        return self._apply_blocks(states, past, self._causal(states, past) if mask is None else mask)

    def step(self, tokens: Tensor, position: int, past: Caches, mask: Tensor) -> tuple[Tensor, Caches]:
        """(images, rows) tokens, all at ``position``, (images, rows, slots) bool -> (images, rows, width), caches."""
        states = self.words(tokens) + self._embed_positions(position, 1)
        return self._apply_blocks(states, past, mask[:, None])

    def logits(self, states: Tensor) -> Tensor:
        """(..., width) states of the last layer -> (..., vocab)."""
        return nn.functional.linear(states, self.words.weight)

    def _apply_blocks(self, states: Tensor, past: Caches, mask: Tensor) -> tuple[Tensor, Caches]:
        bias = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_fill(~mask, -torch.inf)
        bias = bias.to(self._compute_dtype(states))  # once, not from the bools in every layer
        caches = []
        for block, past_cache in zip(self.blocks, past or (None,) * len(self.blocks), strict=True):
            states, cache = block(states, past_cache, bias)
            caches.append(cache)
        return cast(Tensor, self.norm(states)), tuple(caches)

    def _compute_dtype(self, states: Tensor) -> torch.dtype:
        """The output dtype of the linear layers; the attention mask must have the same."""
        device_type = states.device.type
        return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else states.dtype

    def _causal(self, states: Tensor, past: Caches) -> Tensor:
        length, num_past = states.shape[1], past[0].num_slots if past else 0
        return torch.ones(length, num_past + length, dtype=torch.bool, device=states.device).tril(num_past)

    def _embed_positions(self, first: int | Tensor, length: int) -> Tensor:
        """(length, width); positions beyond the last embedding use the last one."""
        positions = first + torch.arange(length, device=self.places.weight.device)
        return cast(Tensor, self.places(positions.clamp(max=CONTEXT_LENGTH - 1)))

    def _initialize(self, num_layers: int) -> None:
        """As published: projections into the residual stream are scaled by 1 / sqrt(2 * num_layers)."""
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                is_residual = name.endswith("_out.weight")
                nn.init.normal_(weight, std=INIT_STD / (2 * num_layers) ** 0.5 if is_residual else INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
