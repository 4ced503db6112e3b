"""Indexes of image vectors that another program has computed with a matcher, or with an unknown model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.inference import text_encoders
from xmodal_cli.inference.index_models import describe_matcher, sentence_encoder, to_index_model
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.paths import absolute_path, expand_home
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.calibration import EncodeSentences, calibrate_index
from xmodal_cli.retrieval.metadata import Calibration, IndexModel
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.vector_files import find_vector_files
from xmodal_cli.retrieval.vector_import import VectorSource, import_vectors
from xmodal_cli.types import FeatureMeta


@dataclass(frozen=True)
class ImportedVectors:
    """An index of the precomputed ``vectors`` in ``source``; ``model`` is empty if it is not known."""

    index: str
    folder: str
    source: str
    model: str
    vectors: int
    photos: int
    calibration: Calibration | None


def index_vectors(
    source: Path,
    name: str | None = None,
    model: str | None = None,
    recall: float | None = None,
    rebuild: bool = False,
    reporter: Reporter = SILENT,
    store: str | None = None,
) -> ImportedVectors:
    """Build an index of the precomputed image vectors in the folder ``source``; see ``retrieval/vector_files.py``.

    ``model`` is the matcher that computed them, which a search needs to encode queries. ``name``
    defaults to that of the folder. The recall is measured on sentences, with the vectors of captions in ``text_emb`` or
    the text encoder of ``model``, else on photos. Raises MissingData, BadData, ConfigError, IncompatibleFeatures.
    """
    source = absolute_path(expand_home(source))
    files = find_vector_files(source)
    if not files:
        raise BadData(f"the files in {source} have no vectors", "give a folder with vectors")
    info = None if model is None else describe_matcher(model)
    card = IndexModel("", "", "", "cosine", files[0].dim, FeatureMeta("", "", "global", files[0].dim))
    if info is not None:
        card = to_index_model(info)
        if card.embed_dim != files[0].dim:
            raise IncompatibleFeatures(
                f"the vectors in {source} have size {files[0].dim}, those of {card.name} {card.embed_dim}",
                "give the model that computed them",
            )
    captions = _find_captions(source, card)
    folder = registry.resolve_folder(name) if name is not None else registry.new_folder([str(source)])
    metadata = import_vectors(folder, source, files, card, recall, store, rebuild, reporter)
    registry.set_default(folder)
    if info is not None:
        text_encoders.ensure(info, reporter)
    encode = captions or (None if info is None else sentence_encoder(card, info))
    calibrate_index(folder, encode, reporter)
    calibration = read_metadata(folder).calibration
    count = sum(file.count for file in files)
    return ImportedVectors(folder.name, str(folder), str(source), card.name, count, metadata.num_items, calibration)


def _find_captions(source: Path, model: IndexModel) -> EncodeSentences | None:
    """Vectors of the captions in ``text_emb``, instead of those of sentences. Raises BadData."""
    files = find_vector_files(source, "text_emb") if (source / "text_emb").is_dir() else []
    if not files:
        return None
    if files[0].dim != model.embed_dim:
        raise BadData(
            f"the vectors of captions in {files[0].path} have size {files[0].dim}, those of images {model.embed_dim}",
            "remove the folder text_emb, or write the vectors of the same model",
        )
    matrix = VectorSource(files, array_similarity(model.similarity).inner_product)
    return lambda sentences: matrix.take(np.unique(np.linspace(0, len(matrix) - 1, len(sentences)).astype(np.int64)))
