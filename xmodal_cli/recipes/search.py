"""``xmodal search``: one ranked list of pictures for sentences and pictures, asked for or asked away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from xmodal_cli.errors import BadData, ConfigError, MissingData, UnknownName, XmodalError
from xmodal_cli.inference import text_encoders
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import Index, open_index, read_metadata
from xmodal_cli.retrieval.query import Term, parse_terms
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo
    from xmodal_cli.inference.text_encoders import SentenceEncoder


@dataclass(frozen=True)
class Hit:
    """A picture; ``rank`` counts from 1, ``score`` is at most 1, higher is more alike."""

    rank: int
    path: str
    score: float


@dataclass(frozen=True)
class SearchResult:
    """``num_vanished`` pictures would have been hits, had their files not gone since they were indexed.

    ``unknown_words`` are words of the query that were in no training caption: the model sees them all alike.
    """

    index: str
    model: str
    similarity: str
    query: tuple[str, ...]
    hits: tuple[Hit, ...]
    num_items: int
    num_vanished: int
    unknown_words: tuple[str, ...]


def search(
    words: Sequence[str], name: str | None = None, num_hits: int = 10, reporter: Reporter = SILENT
) -> SearchResult:
    """The best ``num_hits`` pictures of an index for the terms ``words``; see ``retrieval.query`` for their form.

    A picture among the terms that is in the index needs no model; a sentence does. Raises ConfigError,
    UnknownName, MissingData, BadData, IncompatibleFeatures.
    """
    terms = _terms(words, num_hits)
    with open_searcher(name, reporter) as searcher:
        return searcher.answer(terms, words, num_hits)


def open_searcher(name: str | None = None, reporter: Reporter = SILENT) -> Searcher:
    """An index, the one built last by default, open for many queries. Raises UnknownName, MissingData, BadData."""
    folder = registry.find_index(name)
    return Searcher(open_index(folder), folder, reporter)


class Searcher:
    """An index and its model, both kept loaded between queries; a context manager, or close it yourself.

    It goes on answering from the index as it was when it was opened; ``is_current`` tells whether it is still so. The
    model is loaded by the first query that needs it.
    """

    def __init__(self, index: Index, folder: Path, reporter: Reporter) -> None:
        self._index = index
        self._embedder = _TermEmbedder(index, folder, reporter)
        self.folder, self.index_name = folder, folder.name
        self.model = index.metadata.model.name

    def __len__(self) -> int:
        return len(self._index)

    def search(self, words: Sequence[str], num_hits: int = 10) -> SearchResult:
        """As the function ``search``."""
        return self.answer(_terms(words, num_hits), words, num_hits)

    def answer(self, terms: Sequence[Term], words: Sequence[str], num_hits: int) -> SearchResult:
        """The same for ``words`` that were read into ``terms``."""
        unknown: list[str] = []
        vectors = [TermVector(self._embedder.embed(t, unknown), t.weight, t.image is None) for t in terms]
        hits, vanished = _present_hits(self._index, vectors, num_hits)
        return SearchResult(
            index=self.index_name,
            model=self.model,
            similarity=self._index.metadata.model.similarity,
            query=tuple(words),
            hits=hits,
            num_items=len(self),
            num_vanished=vanished,
            unknown_words=tuple(dict.fromkeys(unknown)),
        )

    def is_current(self) -> bool:
        """Whether the index in ``folder`` is the one that is open; also true where none can be read any more."""
        try:
            return read_metadata(self.folder).build == self._index.metadata.build
        except XmodalError:
            return True

    def close(self) -> None:
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _terms(words: Sequence[str], num_hits: int) -> tuple[Term, ...]:
    if num_hits < 1:
        raise ConfigError(f"-k must be at least 1, not {num_hits}", "the default is 10")
    return parse_terms(words)


class _TermEmbedder:
    """Gives each term its vector. Sentences go through the exported text encoder, without torch; pictures through the
    model, which is loaded when the first one needs it, on the CPU.
    """

    def __init__(self, index: Index, folder: Path, reporter: Reporter) -> None:
        self._index, self._folder, self._reporter = index, folder, reporter

    def embed(self, term: Term, unknown_words: list[str]) -> np.ndarray:
        """(dim,) float32; words of a sentence that the model does not know are added to ``unknown_words``."""
        if term.image is None:
            unknown_words += self._sentences.unknown_words(term.text)
            return self._read(term.text)
        row = self._known_row(term.image)
        return self._encode(term.image) if row is None else self._index.vectors.take(row)[0]

    def _read(self, sentence: str) -> np.ndarray:
        try:
            vectors = self._sentences.embed_texts([sentence])
        except BadData:  # files of the right size and time that are damaged all the same
            self._sentences = self._made_again()
            vectors = self._sentences.embed_texts([sentence])
        vector: np.ndarray = vectors[0]
        return vector

    def _known_row(self, image: Path) -> np.ndarray | None:
        """(1,): the row of a picture with the same bytes."""
        import numpy as np

        from xmodal_cli.paths import absolute_path
        from xmodal_cli.retrieval.file_embedding import file_digest

        try:
            row = self._index.items.row_of_digest(file_digest(str(absolute_path(image.expanduser()))))
        except OSError as error:
            raise BadData(f"{image} cannot be read: {error.strerror}", "check the file and its permissions") from error
        return None if row is None else np.array([row])

    def _encode(self, image: Path) -> np.ndarray:
        from xmodal_cli.inference.encoding import image_vectors

        ((_, vector),) = image_vectors(self._matcher)([image])
        if isinstance(vector, Unreadable):
            raise BadData(
                f"{image} cannot be searched for: {vector.reason}", "give a picture that an image viewer can show"
            )
        return vector

    @cached_property
    def _sentences(self) -> SentenceEncoder:
        made_by = self._index.metadata.model
        exported = text_encoders.find(made_by.fingerprint)
        if exported is None or not exported.is_export_of(made_by.source):
            path = self._model.path
            if exported is not None:
                exported.set_source(made_by.source, path)
        if exported is None:
            return self._made_again()
        if exported.export_error:
            self._reporter.info(
                f"searching with torch: no text encoder of {made_by.name} apart: {exported.export_error}"
            )
            return text_encoders.TorchEncoder(self._matcher)
        return exported

    def _made_again(self) -> SentenceEncoder:
        name = self._index.metadata.model.name
        self._reporter.info(f"exporting the text encoder of {name} with torch; later searches start at once")
        return text_encoders.export(self._model, self._reporter) or text_encoders.TorchEncoder(self._matcher)

    @cached_property
    def _matcher(self) -> LoadedMatcher:
        from xmodal_cli.device import Compute
        from xmodal_cli.inference import matchers

        return matchers.load_matcher(self._model, Compute("cpu", "fp32"))

    @cached_property
    def _model(self) -> ModelInfo:
        """The model that made the index. Raises MissingData, IncompatibleFeatures."""
        from xmodal_cli.inference import models
        from xmodal_cli.retrieval.index import check_fingerprint

        made_by = self._index.metadata.model
        try:
            found = models.describe_model(made_by.source)
        except (MissingData, UnknownName) as error:
            raise MissingData(
                f"the model {made_by.name} that made the index {self._folder.name!r} is gone from {made_by.source}",
                "put the file back, or index the pictures with another: xmodal index PATH --model M --rebuild",
            ) from error
        check_fingerprint(made_by, found.fingerprint, self._folder)
        return found


def _present_hits(index: Index, vectors: Sequence[TermVector], num_hits: int) -> tuple[tuple[Hit, ...], int]:
    """Hits whose files are there, and how many were passed over; looks four times as deep as asked, no deeper."""
    similarity = index.metadata.model.similarity
    for depth in (num_hits, 4 * num_hits + 100):
        found = top_hits(index.vectors, vectors, similarity, depth)
        items = index.items.rows([row for row, _ in found])
        present = [(i.path, s) for i, (_, s) in zip(items, found, strict=True) if Path(i.path).exists()]
        if len(present) >= num_hits or len(found) < depth:
            break
    hits = tuple(Hit(rank, path, score) for rank, (path, score) in enumerate(present[:num_hits], 1))
    return hits, len(found) - len(present)
