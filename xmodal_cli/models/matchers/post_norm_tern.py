"""TERN as published: the architecture ``tern`` with post-norm shared layers and the first state of each side."""

from __future__ import annotations

from torch import nn

from xmodal_cli.models.matchers.tern import TERN
from xmodal_cli.models.sequences import build_pooling, post_norm_layers
from xmodal_cli.types import Similarity


def build(
    image_encoder: nn.Module,
    text_encoder: nn.Module,
    similarity: Similarity,
    embed_dim: int,
    shared_layers: int = 2,
    dropout: float = 0.1,
    num_heads: int = 4,
    feed_forward: int = 2048,
) -> TERN:
    """``shared_layers``: number of shared transformer layers, of width ``embed_dim``; ``feed_forward``: their hidden
    size. The defaults are those of the paper.

    Raises ValueError for encoders without ``states``, or an ``embed_dim`` that is not a multiple of ``num_heads``.
    """
    layers = post_norm_layers(embed_dim, shared_layers, dropout, num_heads, feed_forward)
    model = TERN(image_encoder, text_encoder, similarity, embed_dim, layers)
    model.image_pool, model.text_pool = build_pooling("first", embed_dim), build_pooling("first", embed_dim)
    return model
