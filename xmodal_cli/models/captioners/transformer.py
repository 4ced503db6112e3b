"""A compact transformer decoder that looks at the cells of a picture: our own default captioner.

Layers of causal attention over the words, attention over the cells, and a small network, each with its norm first
(Vaswani et al., arXiv 1706.03762; Xiong et al., arXiv 2002.04745). Words in and words out share one table. The keys and
values of the cells are computed once for each image; the rows of a beam share them, and a beam that changes copies
nothing (``_cache``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.models.captioners._cache import BeamMask, SlotCache
from xmodal_cli.models.captioners._rows import by_image
from xmodal_cli.models.captioners._standard import Standardize
from xmodal_cli.models.sequences import GEOMETRY, HEAD, cell_depth, scaled_cells, transformer_layers
from xmodal_cli.settings import POSITIVE, RATE, Bounds, check_argument
from xmodal_cli.types import CaptionerOutput


@dataclass(frozen=True)
class WritingState:
    """Keys and values of the words so far and of the cells, layer by layer."""

    words: tuple[SlotCache, ...]
    cells: tuple[tuple[Tensor, Tensor], ...]  # (images, heads, cells, head_dim) each
    mask: Tensor  # (images, 1, 1, cells) bool
    ancestry: BeamMask
    place: int = 0
    attention: Tensor | None = None

    def select(self, parents: Tensor) -> WritingState:
        """See ``types.CaptionState``."""
        return replace(self, ancestry=self.ancestry.select(parents), attention=None)


class Layer(nn.Module):
    """Attention over words, over cells, and a network four times as wide."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = max(1, width // HEAD)
        self.norm_words, self.norm_cells, self.norm_wide = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.words_in, self.words_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.keys_values, self.cells_out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def heads(self, states: Tensor) -> Tensor:
        """(items, length, width) -> (items, heads, length, head_dim)."""
        return states.view(*states.shape[:2], self.num_heads, -1).transpose(1, 2)

    def project_cells(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(images, cells, width) -> keys and values of the cells."""
        keys, values = self.keys_values(cells).chunk(2, dim=-1)
        return self.heads(keys), self.heads(values)

    def words_of(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(items, length, width) -> queries, keys and values of the words."""
        queries, keys, values = self.words_in(self.norm_words(states)).chunk(3, dim=-1)
        return self.heads(queries), self.heads(keys), self.heads(values)

    def weigh(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """-> (items, heads, queries, keys), each query's sum 1. Plain products: fastest for short sentences."""
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        return cast(Tensor, scores.masked_fill(~mask, -torch.inf).softmax(-1))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """-> (items, length, width)."""
        weights = self.weigh(queries, keys, mask)
        return (weights.to(values) @ values).transpose(1, 2).flatten(2)

    def finish(self, states: Tensor, found: Tensor, cells: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """From what was found among the words to the layer's states; (images, length, width) for one mask an image."""
        states = states + self.dropout(self.words_out(found))
        queries = self.heads(self.query(self.norm_cells(states)))
        states = states + self.dropout(self.cells_out(self.attend(queries, *cells, mask)))
        return cast(Tensor, states + self.dropout(self.wide(self.norm_wide(states))))

    def weights(self, states: Tensor, found: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """What ``finish`` gives each cell, the mean over heads: (images, length, cells) float32."""
        queries = self.heads(self.query(self.norm_cells(states + self.words_out(found))))
        return self.weigh(queries, keys, mask).float().mean(1)


class TransformerCaptioner(nn.Module):
    """A ``types.Captioner``."""

    def __init__(self, depth: int, image_kind: str, vocab_size: int, width: int, layers: nn.ModuleList) -> None:
        super().__init__()
        self.image_kind, self.vocab_size = image_kind, vocab_size
        self.project = nn.Linear(depth + GEOMETRY, width)
        self.standardize: Standardize | None = None
        self.reason: nn.Module | None = None
        self.norm_cells = nn.LayerNorm(width)
        self.words = nn.Embedding(vocab_size, width)
        self.places = nn.Parameter(torch.empty(0))
        self.layers: Any = layers
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.dropout = nn.Dropout(0.0)
        nn.init.normal_(self.words.weight, std=width**-0.5)

    def start(self, image_features: Tensor) -> WritingState:
        """See ``types.Captioner``."""
        cells, mask = self._see(image_features)
        seen = tuple(layer.project_cells(cells) for layer in self.layers)
        keys, values = seen[0]
        nothing = tuple(SlotCache(keys[:, :, :0], values[:, :, :0]) for _ in self.layers)
        return WritingState(nothing, seen, mask, BeamMask.of_start(len(cells), 0, cells.device))

    def step(self, state: WritingState, tokens: Tensor) -> tuple[Tensor, WritingState]:
        """See ``types.Captioner``."""
        states = self._enter(tokens, torch.tensor(state.place, device=tokens.device))
        ancestry = state.ancestry.grown()
        caches, looked = [], None
        for layer, cache, cells in zip(self.layers, state.words, state.cells, strict=True):
            queries, keys, values = layer.words_of(states)
            grown = cache.append(keys, values)
            found = layer.attend(queries, grown.keys, grown.values, ancestry.mask[:, None])
            if layer is self.layers[-1]:
                looked = layer.weights(states, found, cells[0], state.mask)
            states = layer.finish(states, found, cells, state.mask)
            caches.append(grown)
        after = replace(state, words=tuple(caches), ancestry=ancestry, place=state.place + 1, attention=looked)
        return functional.log_softmax(self._logits(states).float(), dim=-1), after

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        cells, mask = self._see(image_features)
        table, places = by_image(image_of_caption, len(image_features))
        images, rows = table.shape
        length = tokens.shape[1]
        spread = torch.arange(length, device=tokens.device)
        causal = spread[:, None] >= spread[None, :]
        states = self.dropout(self._enter(tokens[table].flatten(0, 1), spread))  # (images * rows, longest, width)
        for layer in self.layers:
            found = layer.attend(*layer.words_of(states), causal)
            of_image = (part.reshape(images, rows * length, -1) for part in (states, found))
            states = layer.finish(*of_image, layer.project_cells(cells), mask).reshape(images * rows, length, -1)
        return CaptionerOutput(self._logits(states[places]))

    def _see(self, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """-> (images, cells, width), (images, 1, 1, cells) bool."""
        features, geometry, mask = scaled_cells(image_features, self.image_kind)
        if self.standardize is not None:
            features, geometry = self.standardize(features, geometry, mask)
        cells = self.dropout(self.project(torch.cat((features, geometry), dim=-1)))
        if self.reason is not None:
            cells = self.reason(cells, src_key_padding_mask=~mask)
        return self.norm_cells(cells), mask[:, None, None]

    def _enter(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Words and where they stand; all places beyond the last known one count as that."""
        known = self.places[places.clamp(max=len(self.places) - 1)]
        return cast(Tensor, self.words(tokens) * self.words.embedding_dim**0.5 + known)

    def _logits(self, states: Tensor) -> Tensor:
        return functional.linear(self.norm(states), self.words.weight, self.bias)


def build(
    image_dim: int,
    image_kind: str,
    vocab_size: int,
    embed_dim: int,
    num_layers: int = 3,
    image_layers: int = 0,
    max_length: int = 64,
    dropout: float = 0.1,
) -> TransformerCaptioner:
    """``embed_dim``: the width of all layers; ``image_layers``: transformer layers over the cells before they are seen.

    Raises ValueError for an ``embed_dim`` that 64 does not divide.
    """
    for name, value in (("num_layers", num_layers), ("max_length", max_length)):
        check_argument(name, value, POSITIVE)
    check_argument("image_layers", image_layers, Bounds(min=0))
    check_argument("dropout", dropout, RATE)
    if embed_dim > HEAD and embed_dim % HEAD:
        raise ValueError(f"transformer layers need a width that {HEAD} divides, not {embed_dim}")
    layers = nn.ModuleList(Layer(embed_dim, dropout) for _ in range(num_layers))
    model = TransformerCaptioner(cell_depth(image_dim, image_kind), image_kind, vocab_size, embed_dim, layers)
    model.places = nn.Parameter(torch.randn(max_length, embed_dim) * 0.02)
    model.dropout = nn.Dropout(dropout)
    model.reason = transformer_layers(embed_dim, image_layers, dropout) if image_layers else None
    return model
