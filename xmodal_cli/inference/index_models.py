"""The matcher of an index: which one it is, its metadata, and its text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, BadModel, DownloadError, MissingData
from xmodal_cli.inference import matchers, models, text_encoders
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.retrieval.calibration import EncodeSentences
from xmodal_cli.retrieval.hints import index_name
from xmodal_cli.retrieval.index import is_index
from xmodal_cli.retrieval.metadata import IndexModel
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.shell_commands import xmodal_command

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


def find_index_model(folder: Path, model: str | None, rebuild: bool) -> ModelInfo | None:
    """The matcher ``model``, else that of the index, else the default one; None if the index's model does not exist.

    Without its model an index can still be updated if no photo has to be embedded. Otherwise loading the model raises
    the error.
    """
    if model is None and is_index(folder):
        try:
            return stored_matcher(read_metadata(folder).model, folder)
        except (MissingData, DownloadError):
            if not rebuild:
                return None
        except BadData as error:
            if not rebuild or isinstance(error, BadModel):
                raise
    return describe_matcher(default_model("matcher") if model is None else model)


def stored_matcher(card: IndexModel, folder: Path) -> ModelInfo:
    """The matcher that an index names. Raises MissingData if it names none, and what ``describe_as`` raises."""
    check_model_known(card, folder)
    return describe_matcher(card.source)


def check_model_known(card: IndexModel, folder: Path) -> None:
    """Raise MissingData for an index of imported vectors without a model."""
    if not card.source:
        raise MissingData(
            f"the index {folder.name!r} has vectors of an unknown model, which cannot encode photos and queries",
            "import them with the model that computed them: "
            + xmodal_command("vectors", "import", "DIR", "--index", index_name(folder), "--model", "M", "--rebuild"),
        )


def describe_matcher(what: str) -> ModelInfo:
    """A matcher by name, run or file. Raises what ``describe_as`` raises."""
    return models.describe_as("matcher", what, "an index needs a matcher; see `xmodal models list`")
