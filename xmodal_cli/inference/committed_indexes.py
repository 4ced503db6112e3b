"""Joins indexes: the photos and vectors of other indexes, such as those of other machines, and their model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmodal_cli.errors import DownloadError, MissingData
from xmodal_cli.inference import text_encoders
from xmodal_cli.inference.index_models import describe_matcher, sentence_encoder, stored_matcher, to_index_model
from xmodal_cli.inference.models import ModelInfo
from xmodal_cli.output_files import check_writable
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.calibration import calibrate_index
from xmodal_cli.retrieval.index_commit import commit_indexes
from xmodal_cli.retrieval.metadata import IndexMetadata


@dataclass(frozen=True)
class CommittedIndexes:
    """An index after the commit of ``sources``: the numbers of their photos that were added and so on.

    ``photos`` are all photos of the index; ``vectors`` were copied.
    """

    index: str
    folder: str
    model: str
    sources: list[str]
    roots: list[str]
    photos: int
    added: int
    updated: int
    unchanged: int
    vectors: int


def join_indexes(
    sources: Sequence[str], name: str, model: str | None = None, reporter: Reporter = SILENT
) -> CommittedIndexes:
    """Add the photos of the indexes ``sources``, names or folders, to the index ``name``, which is created if needed.

    ``model`` is their model on this machine, by default what the first one names. Raises UnknownName and MissingData
    for indexes and models that do not exist, and the errors of ``commit_indexes``.
    """
    folder = registry.resolve_folder(name)
    folders = list(dict.fromkeys(registry.find_index(source) for source in sources))
    check_writable(folder)
    info = None if model is None else describe_matcher(model)
    metadata, counts = commit_indexes(folder, folders, None if info is None else to_index_model(info), reporter)
    registry.set_default(folder)
    info = info or _find_model(metadata, name, reporter)
    if info is not None:
        text_encoders.ensure(info, reporter)
    calibrate_index(folder, sentence_encoder(metadata.model, info), reporter)
    return CommittedIndexes(
        index=folder.name,
        folder=str(folder),
        model=metadata.model.name,
        sources=[str(source) for source in folders],
        roots=list(metadata.roots),
        photos=metadata.num_items,
        added=counts.added,
        updated=counts.updated,
        unchanged=counts.unchanged,
        vectors=counts.vectors,
    )


def _find_model(metadata: IndexMetadata, name: str, reporter: Reporter) -> ModelInfo | None:
    """The model of the index; reports that it is not on this machine."""
    card = metadata.model
    try:
        return stored_matcher(card, registry.resolve_folder(name))
    except (MissingData, DownloadError):
        reporter.warn(
            f"the model {card.name} of the index is not on this machine ({card.source}), and searches need it: copy "
            "it, and repeat the command with --model"
        )
        return None
