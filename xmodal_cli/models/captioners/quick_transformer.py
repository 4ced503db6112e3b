"""The transformer captioner over standardised features, for small ones that have to learn within a minute.

What a frozen network gives of all pictures is alike in most, and where a cell is stands in five numbers beside
hundreds. Here features come without what they have in common, and places are loud (``_standard``).
"""

from __future__ import annotations

from xmodal_cli.models.captioners import transformer
from xmodal_cli.models.captioners._standard import Standardize
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
    """As ``transformer``. Raises ValueError for an ``embed_dim`` that 64 does not divide."""
    model = transformer.build(
        image_dim, image_kind, vocab_size, embed_dim, num_layers, max_length=max_length, dropout=dropout
    )
    model.standardize = Standardize(cell_depth(image_dim, image_kind))
    return model
