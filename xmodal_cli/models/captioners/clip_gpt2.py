"""Image features as the first words of a language model: ClipCap (Mokady, Hertz and Bermano, arXiv 2111.09734).

A mapping turns the features into ``num_prefix`` vectors in the space of GPT-2's word vectors; after them come the
start mark and the words. The prefix is computed once for each image and shared by all its captions, in training as in
decoding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.models.captioners._cache import BeamMask
from xmodal_cli.models.captioners._gpt2 import CONTEXT, GPT2, Caches
from xmodal_cli.models.sequences import GEOMETRY, cell_depth, scaled_cells, transformer_layers
from xmodal_cli.settings import RATE, check_argument
from xmodal_cli.types import CaptionerOutput

LANGUAGE_MODEL = True


@dataclass(frozen=True)
class PrefixState:
    """Rows that follow their image's prefix; ``place`` is that of the next token. It attends to no cells."""

    caches: Caches
    ancestry: BeamMask
    place: int
    attention: Tensor | None = None

    def select(self, parents: Tensor) -> PrefixState:
        """See ``types.CaptionState``."""
        return replace(self, ancestry=self.ancestry.select(parents))


class MLPMapping(nn.Module):
    """(images, [cells,] image_dim) -> (images, num_prefix, width): ClipCap's two layers, of the mean of the cells."""

    def __init__(self, depth: int, image_kind: str, width: int, num_prefix: int) -> None:
        super().__init__()
        self.image_kind, self.num_prefix = image_kind, num_prefix
        self.hidden, self.out = (
            nn.Linear(depth, num_prefix * width // 2),
            nn.Linear(num_prefix * width // 2, num_prefix * width),
        )

    def forward(self, image_features: Tensor) -> Tensor:
        cells, _, mask = scaled_cells(image_features, self.image_kind)  # 0 outside the mask
        mean = cells.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return cast(Tensor, self.out(torch.tanh(self.hidden(mean))).unflatten(-1, (self.num_prefix, -1)))


class TransformerMapping(nn.Module):
    """(images, [cells,] image_dim) -> (images, num_prefix, width): learnt vectors that look at the cells.

    A single vector is first mapped to as many as there are in the prefix, as in ClipCap; cells come with their places.
    """

    def __init__(self, depth: int, image_kind: str, layers: nn.TransformerEncoder, width: int, num_prefix: int) -> None:
        super().__init__()
        self.image_kind, self.num_prefix = image_kind, num_prefix
        self.split = num_prefix if image_kind == "global" else 1
        self.join = nn.Linear(depth + GEOMETRY, self.split * width)
        self.prefix = nn.Parameter(torch.randn(1, num_prefix, width) * 0.02)
        self.layers = layers

    def forward(self, image_features: Tensor) -> Tensor:
        cells, geometry, mask = scaled_cells(image_features, self.image_kind)
        joined = self.join(torch.cat((cells, geometry), dim=-1))
        joined = joined.unflatten(-1, (self.split, -1)).flatten(1, 2)
        states = torch.cat((self.prefix.to(joined.dtype).expand(len(joined), -1, -1), joined), dim=1)
        mask = torch.cat((mask.new_ones(len(mask), self.num_prefix), mask.repeat_interleave(self.split, dim=1)), dim=1)
        return cast(Tensor, self.layers(states, src_key_padding_mask=~mask)[:, : self.num_prefix])


class PrefixCaptioner(nn.Module):
    """A mapping and a ``language_model``: a ``types.Captioner``."""

    def __init__(self, mapping: nn.Module, language_model: GPT2, num_prefix: int) -> None:
        super().__init__()
        self.mapping, self.language_model = mapping, language_model
        self.vocab_size = language_model.words.num_embeddings
        self.num_prefix = num_prefix

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        past = tuple(cache.of_rows(image_of_caption) for cache in self._prefix(image_features))
        words = self.language_model.words(tokens)
        states, _ = self.language_model(words, self.num_prefix, past)
        return CaptionerOutput(self.language_model.logits(states))

    def start(self, image_features: Tensor) -> PrefixState:
        """See ``types.Captioner``."""
        caches = self._prefix(image_features)
        ancestry = BeamMask.of_start(len(image_features), self.num_prefix, image_features.device)
        return PrefixState(caches, ancestry, self.num_prefix)

    def step(self, state: PrefixState, tokens: Tensor) -> tuple[Tensor, PrefixState]:
        """See ``types.Captioner``."""
        ancestry = state.ancestry.grown()
        states, caches = self.language_model.step(tokens, state.place, state.caches, ancestry.mask)
        logits = self.language_model.logits(states)
        return logits.float().log_softmax(dim=-1), PrefixState(caches, ancestry, state.place + 1)

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
    """A fresh language model of ``num_layers`` of ``embed_dim``; pretrained weights go into its ``language_model``.

    ``mapping_layers`` 0 maps the picture by two linear layers, more by so many transformer layers. Raises ValueError
    for an ``embed_dim`` above 64 that 64 does not divide and for a prefix without or of too many vectors.
    """
    if not 1 <= num_prefix <= CONTEXT // 2:
        raise ValueError(f"num_prefix is 1 to {CONTEXT // 2}, not {num_prefix}")
    if mapping_layers < 0 or num_layers < 1:
        raise ValueError(f"mapping_layers is at least 0 and num_layers at least 1, not {mapping_layers}, {num_layers}")
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
