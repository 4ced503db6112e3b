"""Searches the indexes in one thread. An index that was updated is opened again; its encoders stay loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmodal_cli.errors import MissingData
from xmodal_cli.recipes.search import Searcher, open_searcher
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.result_json import to_json
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.items import IndexedItem
from xmodal_cli.retrieval.query import Term
from xmodal_cli.serve.search_request import SearchRequest

MAX_OPEN = 4  # indexes


class CollectedWarnings(SilentReporter):
    """Keeps the warnings of a search."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, message: str) -> None:
        self.texts.append(message)


class SearchService:
    """All methods are for one thread: SQLite connections and the searchers' models belong to it."""

    def __init__(self, default: str | None, runtime: str) -> None:
        self._default, self._runtime = default, runtime
        self._searchers: dict[str, Searcher] = {}
        self._warnings = CollectedWarnings()

    def search(self, request: SearchRequest, uploads: Sequence[Term] = ()) -> dict[str, Any]:
        """The JSON of ``xmodal search``, with the key of each photo in the index.

        Raises ConfigError, UnknownName, MissingData, BadData.
        """
        searcher = self.searcher(request.index)
        self._warnings.texts.clear()
        photos = [*self._photo_terms(searcher, request.like, 1.0), *self._photo_terms(searcher, request.unlike, -1.0)]
        found = searcher.run(request.query(photos, uploads))
        hits = found.hits[request.offset :]
        entries = {entry.item.path: entry for entry in searcher.items.of_paths([hit.path for hit in hits])}
        listed = [{**to_json(hit), **_facts(entries.get(hit.path))} for hit in hits]
        return {**to_json(found), "hits": listed, "warnings": list(self._warnings.texts)}

    def entry(self, index: str | None, key: int) -> IndexedItem:
        """A photo of an index. Raises MissingData."""
        return self.entries(index, [key])[0]

    def entries(self, index: str | None, keys: Sequence[int]) -> list[IndexedItem]:
        """Photos of an index, in the order of their keys. Raises MissingData."""
        return _entries(self.searcher(index), keys)

    def caption(self, index: str | None, key: int) -> str | None:
        """The caption of a photo that ``xmodal caption --index`` has stored."""
        return self.searcher(index).items.caption_of(key)

    def embed(self, index: str | None, terms: Sequence[Term]) -> dict[str, Any]:
        """The vectors (terms, dim) of sentences and photos by the model of an index."""
        searcher = self.searcher(index)
        return {"model": searcher.model, "vectors": [searcher.embed(term).tolist() for term in terms]}

    def indexes(self) -> dict[str, Any]:
        """The indexes of this machine, and the name of the default one, None without an index."""
        found = registry.indexes()
        listed = [
            {
                "name": folder.name,
                "photos": metadata.num_items,
                "unreadable": metadata.num_unreadable,
                "model": metadata.model.name,
                "updated": metadata.updated,
                "roots": metadata.roots,
            }
            for folder, metadata in found
        ]
        default = self._default or (registry.find_index(None).name if listed else None)
        return {"indexes": listed, "default": default}

    def searcher(self, name: str | None) -> Searcher:
        """The searcher of an index. Raises UnknownName, MissingData, BadData."""
        folder = registry.find_index(name or self._default)
        key = str(folder)
        if (searcher := self._searchers.pop(key, None)) is None:
            searcher = open_searcher(key, self._warnings, self._runtime)
        elif not searcher.is_current():
            searcher.reopen()
        self._searchers[key] = searcher  # the last used one is the last
        while len(self._searchers) > MAX_OPEN:
            self._searchers.pop(next(iter(self._searchers))).close()
        return searcher

    def close(self) -> None:
        """Close all indexes."""
        while self._searchers:
            self._searchers.popitem()[1].close()

    def _photo_terms(self, searcher: Searcher, keys: Sequence[int], weight: float) -> list[Term]:
        return [Term(str(entry.id), weight, Path(entry.item.path)) for entry in _entries(searcher, keys)]


def _entries(searcher: Searcher, keys: Sequence[int]) -> list[IndexedItem]:
    found = {entry.id: entry for entry in searcher.items.of_ids(keys)}
    if missing := [key for key in keys if key not in found]:
        hint = "it was removed, or the index was rebuilt: search again"
        raise MissingData(f"the index has no photo {missing[0]}", hint)
    return [found[key] for key in keys]


def _facts(entry: IndexedItem | None) -> dict[str, Any]:
    if entry is None:
        return {}
    item = entry.item
    return {
        "id": entry.id,
        "width": item.width,
        "height": item.height,
        "taken": item.taken,
        "v": item.digest.hex()[:12],
    }
