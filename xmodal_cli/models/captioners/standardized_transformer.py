"""The transformer captioner on standardized features, for small models that are trained quickly.

Features of a frozen backbone are similar for all images, and the position of a cell is five numbers among hundreds.
Standardization removes the mean of the features and scales the positions up (``_standardize``).
"""

from __future__ import annotations

from xmodal_cli.models.captioners import transformer
from xmodal_cli.models.captioners._standardize import Standardize
from xmodal_cli.models.captioners.transformer import TransformerCaptioner
from xmodal_cli.models.sequences import cell_depth


def build(
    image_dim: int,
    image_kind: str,
    vocab_size: int,
    embed_dim: int,
    num_layers: int = 2,
    max_length: int = 64,
    dropout: float = 0.0,
) -> TransformerCaptioner:
    """As ``transformer``. Raises ValueError for an ``embed_dim`` that is not a multiple of 64."""
    model = transformer.build(
        image_dim, image_kind, vocab_size, embed_dim, num_layers, max_length=max_length, dropout=dropout
    )
    model.standardize = Standardize(cell_depth(image_dim, image_kind))
    return model
