"""The best photos of a search that exist, with copies of a photo folded into the best one.

Two photos are copies if their files have the same bytes, or if the cosine of their vectors is at least ``COPY_COSINE``:
the same pixels in another format, or enlarged. Different photos of Flickr8k have at most 0.89 with the bundled model.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli.retrieval.database import NOT_READ
from xmodal_cli.retrieval.index import Index
from xmodal_cli.retrieval.items import IndexedItem, Item
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.selection import PhotoSelection

COPY_COSINE = 0.99
MARGIN = 10  # candidates beyond the requested number of hits, in case of copies and deleted files


@dataclass
class TopPhoto:
    """A hit. ``duplicates`` is the number of further copies of the photo that exist."""

    item: Item
    score: float
    duplicates: int = 0


class TopPhotos:
    """The best photos that exist, fewer than ``num_hits`` if there are no more.

    ``num_vanished`` better ones do not exist; if there are fewer hits, all others. With ``selection``, all other photos
    are ignored.
    """

    def __init__(
        self,
        index: Index,
        terms: Sequence[TermVector],
        options: SearchOptions = SearchOptions(),
        selection: PhotoSelection | None = None,
    ) -> None:
        self._index, self._options, self._selection = index, options, selection
        self._exists: dict[int, bool] = {}
        self.photos: list[TopPhoto] = []
        self.num_vanished = 0
        num_vectors = index.vectors.num_live if selection is None else int(selection.allowed.sum())
        allowed = None if selection is None else selection.allowed
        fraction = 1.0 if options.exact else index.metadata.fraction
        depth = min(options.num_hits + MARGIN, num_vectors)
        while depth:
            top = top_hits(index.vectors, terms, index.metadata.model.similarity, depth, fraction, allowed)
            self._select([(row, score) for row, score in top if self._is_above_threshold(score)])
            is_last = len(top) < depth or depth == num_vectors or not self._is_above_threshold(top[-1][1])
            if len(self.photos) == options.num_hits or is_last:
                break
            depth = min(4 * depth, num_vectors)

    def _is_above_threshold(self, score: float) -> bool:
        return self._options.threshold is None or score >= self._options.threshold

    def _is_selected(self, entry: IndexedItem) -> bool:
        return self._selection is None or entry.id in self._selection

    def _select(self, top: Sequence[tuple[int, float]]) -> None:
        candidates = self._candidates(top)
        items = [entry.item for entry, _ in candidates]
        rows = self._index.vectors.rows_of(entry for entry, _ in candidates)
        copies = _Copies(self._index.vectors.take(rows)) if self._options.fold else None
        chosen: list[int] = []  # positions in ``candidates``
        self.photos, num_vanished = [], 0
        for position, (entry, score) in enumerate(candidates):
            if not self._is_there(entry):
                num_vanished += 1
            elif copies is not None and (first := copies.find(position, chosen, items)) is not None:
                self.photos[first].duplicates += 1
            elif len(chosen) < self._options.num_hits:
                chosen.append(position)
                self.photos.append(TopPhoto(entry.item, score))
                self.num_vanished = num_vanished
        if len(self.photos) < self._options.num_hits:
            self.num_vanished = num_vanished
        if self._options.fold:
            self._count_identical({entry.id for entry, _ in candidates})

    def _candidates(self, top: Sequence[tuple[int, float]]) -> list[tuple[IndexedItem, float]]:
        """The photos with these vectors, best first, those with equal scores by path."""
        entries = [e for e in self._index.items_of_rows([row for row, _ in top]) if self._is_selected(e)]
        score_of = dict(top)
        found = [
            (entry, score_of[int(row)])
            for row, entry in zip(self._index.vectors.rows_of(entries), entries, strict=True)
        ]
        return sorted(found, key=lambda pair: (-pair[1], os.fsencode(pair[0].item.path)))

    def _count_identical(self, examined: set[int]) -> None:
        """Count the files with the bytes of a hit that are not among the candidates."""
        for photo in self.photos:
            copies = self._index.items.of_digest(photo.item.digest)
            others = [entry for entry in copies if entry.id not in examined and self._is_selected(entry)]
            photo.duplicates += sum(map(self._is_there, others))

    def _is_there(self, entry: IndexedItem) -> bool:
        if entry.id not in self._exists:
            self._exists[entry.id] = is_present(entry.item)
        return self._exists[entry.id]


class _Copies:
    """Finds the hit that a candidate is a copy of; ``vectors`` (candidates, dim) in the order of the candidates."""

    def __init__(self, vectors: np.ndarray) -> None:
        wide = vectors.astype(np.float64)  # the norm of a damaged vector could overflow in float32
        with np.errstate(invalid="ignore"):
            self._unit = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)

    def find(self, position: int, chosen: Sequence[int], items: Sequence[Item]) -> int | None:
        """The index in ``chosen`` of the first hit that is the same photo, or None."""
        if not chosen:
            return None
        with np.errstate(invalid="ignore"):
            cosines = self._unit[list(chosen)] @ self._unit[position]
        for i, other in enumerate(chosen):
            if items[other].digest == items[position].digest or cosines[i] >= COPY_COSINE:
                return i
        return None


def is_present(item: Item) -> bool:
    """Whether the file of a photo exists, or its vector was imported without it."""
    return item.size == NOT_READ or exists(item.path)


def exists(path: str) -> bool:
    """Whether a file exists; also if permissions hide it."""
    try:
        os.stat(path)  # noqa: PTH116 - called for every candidate
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EPERM)
    return True
