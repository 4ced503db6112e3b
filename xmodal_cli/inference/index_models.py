"""The matcher of an index: its metadata, and its text encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.inference import matchers, text_encoders
from xmodal_cli.retrieval.calibration import EncodeSentences
from xmodal_cli.retrieval.metadata import IndexModel

if TYPE_CHECKING:
    from xmodal_cli.inference.models import ModelInfo


def to_index_model(info: ModelInfo) -> IndexModel:
    """The metadata that an index stores about its matcher."""
    return IndexModel(info.name, info.source, info.fingerprint, info.similarity, info.embed_dim, info.meta)


def sentence_encoder(card: IndexModel, info: ModelInfo | None) -> EncodeSentences | None:
    """The text encoder of an index, None if its model does not exist."""
    exported = text_encoders.find(card.fingerprint)
    if exported is not None and not exported.folder.export_error:
        return exported.embed_texts
    if info is None:
        return None
    return lambda sentences: matchers.load_matcher(info, Compute("cpu", "fp32")).embed_texts(sentences)
