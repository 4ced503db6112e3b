"""Embeds the terms of a query for an index: sentences and photos, with the model of the index."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, MissingData, UnknownName
from xmodal_cli.inference import text_encoders
from xmodal_cli.paths import expand_home
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.index import Index
from xmodal_cli.retrieval.query import Term
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.data.images import ImageReader
    from xmodal_cli.inference.image_inputs import InputVectors
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo
    from xmodal_cli.inference.text_encoders import SentenceEncoder


class TermEmbedder:
    """Embeds terms on the CPU with the exported encoders of the model, or with torch; loads them when needed."""

    def __init__(self, index: Index, folder: Path, reporter: Reporter, runtime: str) -> None:
        self._index, self._folder, self._reporter = index, folder, reporter
        self._compute = Compute("cpu", "fp32", runtime)

    def use_index(self, index: Index) -> None:
        """Embed for this index from now on; the encoders of another model are released."""
        if index.metadata.model.fingerprint != self._index.metadata.model.fingerprint:
            for name in ("_sentences", "_photos", "_matcher", "_model"):
                self.__dict__.pop(name, None)
        self._index = index

    def embed(self, term: Term, unknown_words: list[str]) -> np.ndarray:
        """(dim,) float32; out-of-vocabulary words of a sentence are added to ``unknown_words``."""
        if term.image is None:
            return self._embed_sentence(term.text, unknown_words)
        rows = self._find_rows(term.image)
        return self._index.vectors.take(rows)[0] if len(rows) else self._embed_photo(term.image)

    def _embed_sentence(self, sentence: str, unknown_words: list[str]) -> np.ndarray:
        try:
            unknown, vectors = self._sentences.unknown_words(sentence), self._sentences.embed_texts([sentence])
        except BadData:  # the export is damaged although its sizes and times are unchanged, or cannot be read
            self._sentences = self._export()
            unknown, vectors = self._sentences.unknown_words(sentence), self._sentences.embed_texts([sentence])
        unknown_words += unknown
        vector: np.ndarray = vectors[0]
        return vector

    def _find_rows(self, image: Path) -> np.ndarray:
        """(1,): the row of the vector of an indexed photo with the same bytes; (0,) without one."""
        from xmodal_cli.paths import absolute_path
        from xmodal_cli.retrieval.file_hashing import file_digest

        try:
            digest = file_digest(str(absolute_path(expand_home(image))))
        except OSError as error:
            raise BadData(f"{image} cannot be read: {error.strerror}", "check the file and its permissions") from error
        known = self._index.items.find_digest(digest)
        return self._index.vectors.rows_of([] if known is None else [known])

    def _embed_photo(self, image: Path) -> np.ndarray:
        from xmodal_cli.inference.unchecked_features import report_unchecked

        report_unchecked([self._model], self._reporter)
        ((_, vector),) = self._photos([image])
        for defect in dict.fromkeys(self._images.defects):
            self._reporter.warn(f"{defect.path}: {defect.reason}")
        self._images.defects.clear()
        if isinstance(vector, Unreadable):
            raise BadData(
                f"{image} cannot be used as a query: {vector.reason}", "give a photo in a supported image format"
            )
        return vector

    @cached_property
    def _sentences(self) -> SentenceEncoder:
        model = self._index.metadata.model
        exported = text_encoders.find(model.fingerprint)
        if exported is None or not exported.folder.is_export_of(model.source):
            path = self._model.path
            if exported is not None:
                exported.folder.set_source(model.source, path)
        if exported is None:
            return self._export()
        if reason := exported.folder.export_error:
            self._reporter.info(
                f"searching with torch: the text encoder of {model.name} could not be exported: {reason}"
            )
            return text_encoders.TorchEncoder(self._matcher)
        return exported

    def _export(self) -> SentenceEncoder:
        name = self._index.metadata.model.name
        self._reporter.info(f"exporting the text encoder of {name} with torch; later searches will be faster")
        return text_encoders.export(self._model, self._reporter) or text_encoders.TorchEncoder(self._matcher)

    @cached_property
    def _photos(self) -> InputVectors:
        from xmodal_cli.inference import encoding
        from xmodal_cli.inference.exported_matcher import open_matcher

        return encoding.image_vectors(open_matcher(self._model, self._compute, 1, self._reporter), self._images)

    @cached_property
    def _images(self) -> ImageReader:
        from xmodal_cli.data.images import ImageReader

        return ImageReader()

    @cached_property
    def _matcher(self) -> LoadedMatcher:
        from xmodal_cli.inference import matchers

        return matchers.load_matcher(self._model, self._compute)

    @cached_property
    def _model(self) -> ModelInfo:
        """The model of the index. Raises MissingData, IncompatibleFeatures."""
        from xmodal_cli.inference import models
        from xmodal_cli.inference.index_models import check_model_known
        from xmodal_cli.retrieval.index import check_fingerprint

        model = self._index.metadata.model
        check_model_known(model, self._folder)
        try:
            info = models.describe_model(model.source)
        except (MissingData, UnknownName) as error:
            raise MissingData(
                f"the model {model.name} of the index {self._folder.name!r} does not exist at {model.source}",
                "restore the file, or rebuild the index with another model: "
                f"{index_command('--model', 'M', '--rebuild', index=index_name(self._folder))}",
            ) from error
        check_fingerprint(model, info.fingerprint, self._folder)
        return info
