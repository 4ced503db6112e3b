"""TERN, the Transformer Encoder Reasoning Network: image and text end in the same transformer layers.

Messina, Falchi, Esuli, Amato: Transformer Reasoning Network for Image-Text Matching and Retrieval (arXiv 2004.09144).
Each side has its own encoder, followed by transformer layers with shared weights and a pooling. There is no
cross-attention: it is a dual encoder, so images are indexed once.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling, transformer_layers
from xmodal_cli.types import Similarity


class TERN(nn.Module):
    """Two encoders with ``states``, the shared layers after them, and a pooling per side."""

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
        states = self.shared(states, src_key_padding_mask=~mask)
        return self.similarity.prepare(cast(Tensor, pool(states, mask)).float())


def _widen(encoder: Any, embed_dim: int) -> nn.Module:
    if not hasattr(encoder, "states"):
        raise ValueError(f"{type(encoder).__name__} returns one vector; tern needs an encoder with states: transformer")
    for module in encoder.modules():  # the layers after the states are unused and should not be saved
        for layer in ("pool", "project"):
            if hasattr(module, "states") and isinstance(getattr(module, layer, None), nn.Module):
                setattr(module, layer, nn.Identity())
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
    """``shared_layers``: number of shared transformer layers, of width ``embed_dim``.

    Raises ValueError for encoders without ``states``, or an ``embed_dim`` that is not a multiple of 64.
    """
    layers = transformer_layers(embed_dim, shared_layers, dropout)
    model = TERN(image_encoder, text_encoder, similarity, embed_dim, layers)
    model.image_pool, model.text_pool = build_pooling(image_pooling, embed_dim), build_pooling(text_pooling, embed_dim)
    return model
