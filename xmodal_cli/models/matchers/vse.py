"""Visual-semantic embedding: an image vector and a sentence vector in one space, compared by a similarity.

Kiros, Salakhutdinov, Zemel: Unifying Visual-Semantic Embeddings with Multimodal Neural Language Models
(arXiv 1411.2539); order embeddings (Vendrov et al., arXiv 1511.06361), VSE++ (Faghri et al., arXiv 1707.05612) and
VSE-infinity (Chen et al., arXiv 2011.04305) are the same architecture with a different similarity, loss or pooling.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.types import Similarity


class VSE(nn.Module):
    """An image encoder, a text encoder, and a similarity of their outputs."""

    def __init__(
        self, image_encoder: nn.Module, text_encoder: nn.Module, similarity: Similarity, embed_dim: int
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.similarity = similarity
        self.embed_dim = embed_dim

    def encode_image(self, image_features: Tensor) -> Tensor:
        """(images, [cells,] image_dim) -> (images, embed_dim) float32, in the similarity's space."""
        return self.similarity.prepare(cast(Tensor, self.image_encoder(image_features)).float())

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(captions, longest[, text_dim]), (captions,) int64 -> (captions, embed_dim) float32."""
        return self.similarity.prepare(cast(Tensor, self.text_encoder(tokens, lengths)).float())


def build(image_encoder: nn.Module, text_encoder: nn.Module, similarity: Similarity, embed_dim: int) -> VSE:
    """The matcher from its parts. Raises ValueError if an encoder has a fixed output size other than ``embed_dim``."""
    for encoder in (image_encoder, text_encoder):
        width = getattr(encoder, "out_dim", None) or embed_dim
        if width != embed_dim:
            raise ValueError(f"{type(encoder).__name__} returns {width}-d vectors, but embed_dim is {embed_dim}")
    return VSE(image_encoder, text_encoder, similarity, embed_dim)
