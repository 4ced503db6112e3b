"""``xmodal search``: rank the photos of an index by positive and negative terms, sentences or photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from xmodal_cli.errors import XmodalError
from xmodal_cli.inference.term_embedder import TermEmbedder
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import faiss_products, registry
from xmodal_cli.retrieval.conditions import ALL
from xmodal_cli.retrieval.index import Index, open_index
from xmodal_cli.retrieval.newest_photos import newest_photos
from xmodal_cli.retrieval.query import Query, Term, parse_query
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.search_result import Hit, SearchResult
from xmodal_cli.retrieval.selection import photo_condition, select_photos
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.retrieval.items import ItemStore


def search(
    words: Sequence[str],
    name: str | None = None,
    options: SearchOptions = SearchOptions(),
    reporter: Reporter = SILENT,
    runtime: str = "auto",
) -> SearchResult:
    """The best photos of an index for the terms ``words``; see ``retrieval.query`` for their format.

    Photos that are in the index need no model; sentences and other photos do. ``runtime`` is the library that encodes
    them, ``auto``, ``onnx`` or ``torch``. Raises ConfigError, UnknownName, MissingData, BadData, IncompatibleFeatures.
    """
    query = parse_query(words, options)
    with open_searcher(name, reporter, runtime) as searcher:
        return searcher.run(query)


def open_searcher(name: str | None = None, reporter: Reporter = SILENT, runtime: str = "auto") -> Searcher:
    """Open an index, by default the most recently built one. Raises UnknownName, MissingData, BadData."""
    folder = registry.find_index(name)
    return Searcher(open_index(folder), folder, reporter, runtime)


class Searcher:
    """An open index and its model, for several queries. Close it, or use it as a context manager.

    Queries search the index as it was when it was opened; ``is_current`` checks for a later update. The model is loaded
    by the first query that needs it.
    """

    def __init__(self, index: Index, folder: Path, reporter: Reporter, runtime: str = "auto") -> None:
        self._index, self._reporter = index, reporter
        self._embedder = TermEmbedder(index, folder, reporter, runtime)
        self.folder, self.index_name = folder, folder.name
        self.model = index.metadata.model.name
        self._num_searches = 0

    def __len__(self) -> int:
        return len(self._index)

    def search(self, words: Sequence[str], options: SearchOptions = SearchOptions()) -> SearchResult:
        """The best photos for the terms ``words``; see the function ``search``."""
        return self.run(parse_query(words, options))

    def run(self, query: Query) -> SearchResult:
        """The best photos for a query; all photos, the newest first, for one without terms and filters."""
        unknown: list[str] = []
        vectors = [TermVector(self._embedder.embed(t, unknown), t.weight, t.image is None) for t in query.terms]
        condition = photo_condition(self._index, query, self.folder, self._reporter)
        self._num_searches += 1
        if self._num_searches == 2:
            faiss_products.start_import(self._index.vectors.num_rows)
        if vectors:
            selected = None if condition is None else select_photos(self._index, condition)
            top = TopPhotos(self._index, vectors, query.options, selected)
            num_vanished = top.num_vanished
            hits = tuple(Hit(i, p.item.path, min(p.score, 1.0), p.duplicates) for i, p in enumerate(top.photos, 1))
        else:
            newest, num_vanished = newest_photos(self._index, query.options, condition or ALL)
            hits = tuple(Hit(i, p.item.path, None, p.duplicates) for i, p in enumerate(newest, 1))
        return SearchResult(
            index=self.index_name,
            model=self.model,
            similarity=self._index.metadata.model.similarity,
            query=query.words,
            hits=hits,
            items=len(self),
            vanished=num_vanished,
            unknown_words=tuple(dict.fromkeys(unknown)),
            folder=str(self.folder),
        )

    @property
    def items(self) -> ItemStore:
        """The photos of the index."""
        return self._index.items

    def embed(self, term: Term) -> np.ndarray:
        """(dim,) float32, the vector of a sentence or photo."""
        return self._embedder.embed(term, [])

    def reopen(self) -> None:
        """Open the index as it is now. Encoders stay loaded if its model is the same."""
        index = open_index(self.folder)
        self._index.close()
        self._embedder.use_index(index)
        self._index, self.model = index, index.metadata.model.name

    def is_current(self) -> bool:
        """Whether the index was not updated since it was opened; also true if it can no longer be read."""
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
