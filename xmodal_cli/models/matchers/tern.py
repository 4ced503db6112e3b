"""TERN, the Transformer Encoder Reasoning Network: both sides end in the same transformer layers.

Messina, Falchi, Esuli, Amato: Transformer Reasoning Network for Image-Text Matching and Retrieval (arXiv 2004.09144).
Regions reason among themselves and words among themselves; then layers whose weights the two sides share bring them
to one level of abstraction, and one state of each, the whole's, is the vector. Nothing crosses from one side to the
other, so pictures are indexed once and a query costs what any dual encoder's costs.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling, transformer_layers
from xmodal_cli.types import Similarity


class TERN(nn.Module):
    """Encoders that give states, the shared layers above them, and a pooling for each side."""

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        similarity: Similarity,
        embed_dim: int,
        layers: nn.Module,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.similarity, self.embed_dim = similarity, embed_dim
        self.image_widen = _widen(image_encoder, embed_dim)
        self.text_widen = _widen(text_encoder, embed_dim)
        self.shared = layers
        self.image_pool: nn.Module = nn.Identity()
        self.text_pool: nn.Module = nn.Identity()

    def encode_image(self, image_features: Tensor) -> Tensor:
        """(images, cells, image_dim) -> (images, embed_dim) float32, in the similarity's space."""
        states, mask = self.image_encoder.states(image_features)  # type: ignore[operator]
        return self._vectors(self.image_widen(states), mask, self.image_pool)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(captions, longest[, text_dim]), (captions,) int64 -> (captions, embed_dim) float32."""
        states, mask = self.text_encoder.states(tokens, lengths)  # type: ignore[operator]
        return self._vectors(self.text_widen(states), mask, self.text_pool)

    def _vectors(self, states: Tensor, mask: Tensor, pool: nn.Module) -> Tensor:
        reasoned = self.shared(states, src_key_padding_mask=~mask)
        return self.similarity.prepare(cast(Tensor, pool(reasoned, mask)).float())


def _widen(encoder: Any, embed_dim: int) -> nn.Module:
    if not hasattr(encoder, "states"):
        raise ValueError(f"{type(encoder).__name__} gives one vector; tern needs an encoder with states: transformer")
    for module in encoder.modules():  # what comes after the states is not used, and has no place in the file
        for end in ("pool", "project"):
            if hasattr(module, "states") and isinstance(getattr(module, end, None), nn.Module):
                setattr(module, end, nn.Identity())
    return nn.Identity() if encoder.state_dim == embed_dim else nn.Linear(encoder.state_dim, embed_dim)


def build(
    image_encoder: nn.Module,
    text_encoder: nn.Module,
    similarity: Similarity,
    embed_dim: int,
    shared_layers: int = 2,
    dropout: float = 0.1,
    image_pooling: str = "first",
    text_pooling: str = "first",
) -> TERN:
    """``shared_layers``: transformer layers, of width ``embed_dim``, that both sides go through.

    Raises ValueError for encoders that give no states, or for an ``embed_dim`` that 64 does not divide.
    """
    layers = transformer_layers(embed_dim, shared_layers, dropout)
    model = TERN(image_encoder, text_encoder, similarity, embed_dim, layers)
    model.image_pool, model.text_pool = build_pooling(image_pooling, embed_dim), build_pooling(text_pooling, embed_dim)
    return model
