"""Image features as a prefix of a language model: ClipCap (Mokady, Hertz and Bermano, arXiv 2111.09734).

A mapping network turns the features into ``num_prefix`` vectors in the embedding space of GPT-2, followed by BOS and
the words. The prefix is computed once per image and shared by all its captions, in training and in decoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from xmodal_cli.models.captioners._cache import BeamMask, SlotCache
from xmodal_cli.models.captioners._gpt2 import CONTEXT_LENGTH, GPT2, Caches
from xmodal_cli.models.sequences import GEOMETRY_DIM, cell_depth, scaled_cells, transformer_layers
from xmodal_cli.settings import LAYERS, RATE, Bounds, check_argument
from xmodal_cli.types import CaptionerOutput

LANGUAGE_MODEL = True


@dataclass(frozen=True)
class PrefixState:
    """Rows after the prefix of their image; ``position`` is that of the next token. ``attention`` is not computed."""

    caches: Caches
    beam_mask: BeamMask
    position: int
    attention: Tensor | None = None

    def select(self, parents: Tensor) -> PrefixState:
        """See ``types.CaptionState``."""
        return replace(self, beam_mask=self.beam_mask.select(parents))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for the export to ONNX."""
        return SlotCache.split(self.caches) | {"beam_mask": self.beam_mask.mask}

    def with_tensors(self, tensors: Mapping[str, Tensor], position: Any) -> PrefixState:
        """The state with other ``tensors`` at another ``position``, a number or a tensor without axes."""
        return PrefixState(SlotCache.join(tensors, len(self.caches)), BeamMask(tensors["beam_mask"]), position)


class MLPMapping(nn.Module):
    """(images, [cells,] image_dim) -> (images, num_prefix, width): ClipCap's two-layer MLP on the mean of the cells."""

    def __init__(self, depth: int, image_kind: str, width: int, num_prefix: int) -> None:
        super().__init__()
        self.image_kind, self.num_prefix = image_kind, num_prefix
        self.hidden, self.out = (
            nn.Linear(depth, num_prefix * width // 2),
            nn.Linear(num_prefix * width // 2, num_prefix * width),
        )

    def forward(self, image_features: Tensor) -> Tensor:
        cells, _, mask = scaled_cells(image_features, self.image_kind)  # cells are 0 outside the mask
        mean = cells.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        prefix: Tensor = self.out(torch.tanh(self.hidden(mean)))
        return prefix.view(mean.shape[0], self.num_prefix, -1)


class TransformerMapping(nn.Module):
    """(images, [cells,] image_dim) -> (images, num_prefix, width): learned vectors that attend to the cells.

    A ``global`` feature vector is first mapped to ``num_prefix`` vectors, as in ClipCap. Cells include their geometry.
    """

    def __init__(self, depth: int, image_kind: str, layers: nn.TransformerEncoder, width: int, num_prefix: int) -> None:
        super().__init__()
        self.image_kind, self.num_prefix = image_kind, num_prefix
        self.split = num_prefix if image_kind == "global" else 1
        self.join = nn.Linear(depth + GEOMETRY_DIM, self.split * width)
        self.prefix = nn.Parameter(torch.randn(1, num_prefix, width) * 0.02)
        self.layers = layers

    def forward(self, image_features: Tensor) -> Tensor:
        cells, geometry, mask = scaled_cells(image_features, self.image_kind)
        joined = self.join(torch.cat((cells, geometry), dim=-1))
        joined = joined.view(joined.shape[0], joined.shape[1] * self.split, -1)
        states = torch.cat((self.prefix.to(joined.dtype).expand(joined.shape[0], -1, -1), joined), dim=1)
        mask = torch.cat(
            (mask.new_ones(mask.shape[0], self.num_prefix), mask.repeat_interleave(self.split, dim=1)), dim=1
        )
        return cast(Tensor, self.layers(states, src_key_padding_mask=~mask)[:, : self.num_prefix])


class PrefixCaptioner(nn.Module):
    """A mapping network and a ``language_model``: a ``types.Captioner``."""

    def __init__(self, mapping: nn.Module, language_model: GPT2, num_prefix: int) -> None:
        super().__init__()
        self.mapping, self.language_model = mapping, language_model
        self.vocab_size = language_model.words.num_embeddings
        self.num_prefix = num_prefix

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        past = tuple(cache.select_images(image_of_caption) for cache in self._prefix(image_features))
        words = self.language_model.words(tokens)
        states, _ = self.language_model(words, self.num_prefix, past)
        return CaptionerOutput(self.language_model.logits(states))

    def start(self, image_features: Tensor) -> PrefixState:
        """See ``types.Captioner``."""
        caches = self._prefix(image_features)
        beam_mask = BeamMask.initial(image_features.shape[0], self.num_prefix, image_features.device)
        return PrefixState(caches, beam_mask, self.num_prefix)

    def step(self, state: PrefixState, tokens: Tensor) -> tuple[Tensor, PrefixState]:
        """See ``types.Captioner``."""
        beam_mask = state.beam_mask.add_slots()
        states, caches = self.language_model.step(tokens, state.position, state.caches, beam_mask.mask)
        logits = self.language_model.logits(states)
        return logits.float().log_softmax(dim=-1), PrefixState(caches, beam_mask, state.position + 1)

    def _prefix(self, image_features: Tensor) -> Caches:
        caches: Caches = self.language_model(self.mapping(image_features), 0)[1]
        return caches


def build(
    image_dim: int,
    image_kind: str,
    vocab_size: int,
    embed_dim: int,
    num_prefix: int = 10,
    mapping_layers: int = 0,
    num_layers: int = 2,
    dropout: float = 0.1,
) -> PrefixCaptioner:
    """A captioner with new weights; ``num_layers`` and ``embed_dim`` are the depth and width of the language model.

    ``mapping_layers``: number of transformer layers of the mapping network; 0 is an MLP of two linear layers. Raises
    ValueError for an ``embed_dim`` above 64 that is not a multiple of 64, and for other values out of range.
    """
    if not 1 <= num_prefix <= CONTEXT_LENGTH // 2:
        raise ValueError(f"num_prefix must be from 1 to {CONTEXT_LENGTH // 2}, not {num_prefix}")
    check_argument("mapping_layers", mapping_layers, Bounds(min=0, max=LAYERS.max))
    check_argument("num_layers", num_layers, LAYERS)
    check_argument("dropout", dropout, RATE)
    language_model = GPT2(vocab_size, embed_dim, num_layers, dropout)
    depth = cell_depth(image_dim, image_kind)
    mapping: nn.Module
    if mapping_layers:
        layers = transformer_layers(embed_dim, mapping_layers, dropout)
        mapping = TransformerMapping(depth, image_kind, layers, embed_dim, num_prefix)
    else:
        mapping = MLPMapping(depth, image_kind, embed_dim, num_prefix)
    return PrefixCaptioner(mapping, language_model, num_prefix)
