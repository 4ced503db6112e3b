"""A small transformer decoder that attends to the cells of an image: the default captioner.

Pre-norm layers of causal self-attention, cross-attention to the cells and an MLP (Vaswani et al., arXiv 1706.03762;
Xiong et al., arXiv 2002.04745). Input and output word embeddings are tied. The keys and values of the cells are
computed once per image and shared by the rows of a beam; reordering a beam copies no keys or values (``_cache``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.models.captioners._cache import BeamMask, SlotCache
from xmodal_cli.models.captioners._caption_rows import group_by_image
from xmodal_cli.models.captioners._standardize import Standardize
from xmodal_cli.models.sequences import GEOMETRY_DIM, HEAD_DIM, cell_depth, scaled_cells, transformer_layers
from xmodal_cli.settings import LAYERS, POSITIVE, RATE, Bounds, check_argument
from xmodal_cli.types import CaptionerOutput

CELL_PARTS = ("keys", "values")


@dataclass(frozen=True)
class DecoderState:
    """Keys and values of the words so far and of the cells, per layer."""

    words: tuple[SlotCache, ...]
    cells: tuple[tuple[Tensor, Tensor], ...]  # (images, heads, cells, head_dim) each
    mask: Tensor  # (images, 1, 1, cells) bool
    beam_mask: BeamMask
    position: int = 0
    attention: Tensor | None = None

    def select(self, parents: Tensor) -> DecoderState:
        """See ``types.CaptionState``."""
        return replace(self, beam_mask=self.beam_mask.select(parents), attention=None)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for the export to ONNX."""
        cells = {f"cell_{part}_{n}": kv[i] for n, kv in enumerate(self.cells) for i, part in enumerate(CELL_PARTS)}
        return SlotCache.split(self.words) | cells | {"mask": self.mask, "beam_mask": self.beam_mask.mask}

    def with_tensors(self, tensors: Mapping[str, Tensor], position: Any) -> DecoderState:
        """The state with other ``tensors`` at another ``position``, a number or a tensor without axes."""
        layers = range(len(self.words))
        cells = tuple((tensors[f"cell_keys_{n}"], tensors[f"cell_values_{n}"]) for n in layers)
        words, beam_mask = SlotCache.join(tensors, len(self.words)), BeamMask(tensors["beam_mask"])
        return DecoderState(words, cells, tensors["mask"], beam_mask, position)


class Layer(nn.Module):
    """Self-attention over the words, cross-attention to the cells, and an MLP of hidden size ``4 * width``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = max(1, width // HEAD_DIM)
        self.norm_words, self.norm_cells, self.norm_wide = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.words_in, self.words_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.keys_values, self.cells_out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def split_heads(self, states: Tensor) -> Tensor:
        """(items, length, width) -> (items, heads, length, head_dim)."""
        return states.view(*states.shape[:2], self.num_heads, -1).transpose(1, 2)

    def project_cells(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(images, cells, width) -> keys and values of the cells."""
        keys, values = self.keys_values(cells).chunk(2, dim=-1)
        return self.split_heads(keys), self.split_heads(values)

    def project_words(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(items, length, width) -> queries, keys and values of the words."""
        queries, keys, values = self.words_in(self.norm_words(states)).chunk(3, dim=-1)
        return self.split_heads(queries), self.split_heads(keys), self.split_heads(values)

    def attention_weights(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """-> (items, heads, queries, keys); sums to 1 over keys. Not fused: this is fastest for short sentences."""
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        return cast(Tensor, scores.masked_fill(~mask, -torch.inf).softmax(-1))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """-> (items, length, width)."""
        weights = self.attention_weights(queries, keys, mask)
        return (weights.to(values) @ values).transpose(1, 2).flatten(2)

    def attend_to_cells(self, states: Tensor, attended: Tensor, cells: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        """The rest of the layer after self-attention, whose result is ``attended``; (images, length, width)."""
        states = states + self.dropout(self.words_out(attended))
        queries = self.split_heads(self.query(self.norm_cells(states)))
        states = states + self.dropout(self.cells_out(self.attend(queries, *cells, mask)))
        return cast(Tensor, states + self.dropout(self.wide(self.norm_wide(states))))

    def cell_weights(self, states: Tensor, attended: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """The weights of ``attend_to_cells``, averaged over heads: (images, length, cells) float32."""
        queries = self.split_heads(self.query(self.norm_cells(states + self.words_out(attended))))
        return self.attention_weights(queries, keys, mask).float().mean(1)


class TransformerCaptioner(nn.Module):
    """A ``types.Captioner``."""

    def __init__(self, depth: int, image_kind: str, vocab_size: int, width: int, layers: nn.ModuleList) -> None:
        super().__init__()
        self.image_kind, self.vocab_size = image_kind, vocab_size
        self.project = nn.Linear(depth + GEOMETRY_DIM, width)
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

    def start(self, image_features: Tensor) -> DecoderState:
        """See ``types.Captioner``."""
        cells, mask = self._encode_cells(image_features)
        cell_keys_values = tuple(layer.project_cells(cells) for layer in self.layers)
        keys, values = cell_keys_values[0]
        empty_caches = tuple(SlotCache(keys[:, :, :0], values[:, :, :0]) for _ in self.layers)
        return DecoderState(empty_caches, cell_keys_values, mask, BeamMask.initial(cells.shape[0], 0, cells.device))

    def step(self, state: DecoderState, tokens: Tensor) -> tuple[Tensor, DecoderState]:
        """See ``types.Captioner``."""
        states = self._embed(tokens, torch.as_tensor(state.position, device=tokens.device))
        beam_mask = state.beam_mask.add_slots()
        caches, attention = [], None
        for layer, cache, cells in zip(self.layers, state.words, state.cells, strict=True):
            queries, keys, values = layer.project_words(states)
            new_cache = cache.append(keys, values)
            attended = layer.attend(queries, new_cache.keys, new_cache.values, beam_mask.mask[:, None])
            if layer is self.layers[-1]:
                attention = layer.cell_weights(states, attended, cells[0], state.mask)
            states = layer.attend_to_cells(states, attended, cells, state.mask)
            caches.append(new_cache)
        next_state = replace(
            state, words=tuple(caches), beam_mask=beam_mask, position=state.position + 1, attention=attention
        )
        return functional.log_softmax(self._logits(states).float(), dim=-1), next_state

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        cells, mask = self._encode_cells(image_features)
        table, caption_rows = group_by_image(image_of_caption, len(image_features))
        images, rows = table.shape
        length = tokens.shape[1]
        positions = torch.arange(length, device=tokens.device)
        causal = positions[:, None] >= positions[None, :]
        states = self.dropout(self._embed(tokens[table].flatten(0, 1), positions))  # (images * rows, longest, width)
        for layer in self.layers:
            attended = layer.attend(*layer.project_words(states), causal)
            by_image = (part.reshape(images, rows * length, -1) for part in (states, attended))
            states = layer.attend_to_cells(*by_image, layer.project_cells(cells), mask).reshape(
                images * rows, length, -1
            )
        return CaptionerOutput(self._logits(states[caption_rows]))

    def _encode_cells(self, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """-> (images, cells, width), (images, 1, 1, cells) bool."""
        features, geometry, mask = scaled_cells(image_features, self.image_kind)
        if self.standardize is not None:
            features, geometry = self.standardize(features, geometry, mask)
        cells = self.dropout(self.project(torch.cat((features, geometry), dim=-1)))
        if self.reason is not None:
            cells = self.reason(cells, src_key_padding_mask=~mask)
        return self.norm_cells(cells), mask[:, None, None]

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Word plus position embeddings; positions beyond the last embedding use the last one."""
        position_vectors = self.places[positions.clamp(max=len(self.places) - 1)]
        return cast(Tensor, self.words(tokens) * self.words.embedding_dim**0.5 + position_vectors)

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
    """``embed_dim``: width of all layers; ``image_layers``: number of transformer encoder layers over the cells.

    Raises ValueError for an ``embed_dim`` that is not a multiple of 64.
    """
    check_argument("num_layers", num_layers, LAYERS)
    check_argument("max_length", max_length, POSITIVE)
    check_argument("image_layers", image_layers, Bounds(min=0, max=LAYERS.max))
    check_argument("dropout", dropout, RATE)
    if embed_dim > HEAD_DIM and embed_dim % HEAD_DIM:
        raise ValueError(f"the width of transformer layers must be a multiple of {HEAD_DIM}, not {embed_dim}")
    layers = nn.ModuleList(Layer(embed_dim, dropout) for _ in range(num_layers))
    model = TransformerCaptioner(cell_depth(image_dim, image_kind), image_kind, vocab_size, embed_dim, layers)
    model.places = nn.Parameter(nn.init.normal_(torch.empty(max_length, embed_dim), std=0.02))
    model.dropout = nn.Dropout(dropout)
    model.reason = transformer_layers(embed_dim, image_layers, dropout) if image_layers else None
    return model
