"""CIDEr-D (arXiv 1411.5726) of token lists against references that are counted once. Knows no end token.

For n = 1..4 a sentence is the vector of its n-grams' counts times log(documents / documents that hold the n-gram), a
document being all references of an image. The score of a candidate c and a reference r is the mean over n of

    10 * sum_g min(c_g, r_g) * r_g / (|c| |r|) * exp(-(len(c) - len(r))^2 / (2 sigma^2))

and the mean of it over the references. The lengths count 2-grams, as in the authors' and COCO's code: one less than the
words. An n-gram of no document counts as held by one. That is what the COCO evaluation prints as CIDEr.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.token_rows import References, Rows, Tokens
from xmodal_cli.numba_kernel import compiled

ORDERS = 4


class CiderScorer:
    """Scores captions of images whose references it was built with; for self-critical training and for the metrics.

    A caption is a list of token numbers, and so is a reference. An end token counts if both are given with it.
    """

    def __init__(
        self,
        references: Sequence[Sequence[Tokens]] | References,
        documents: Sequence[Sequence[Tokens]] | References | None = None,
        sigma: float = 6.0,
    ) -> None:
        """``documents`` are the references to count document frequencies in; without them, ``references`` are.

        Raises ValueError where an image has no reference.
        """
        own = references if isinstance(references, References) else References.of(references)
        given = documents if isinstance(documents, References | None) else References.of(documents)
        counted = own if given is None else given
        self.num_images, self.num_documents = len(own.firsts) - 1, len(counted.firsts) - 1
        self._ngrams = _NGrams.of([own.rows] if given is None else [own.rows, given.rows])
        self._unseen = float(np.log(max(1, self.num_documents)))
        self._weights = self._unseen - np.log(np.maximum(1, self._frequencies(counted)))
        self._sigma = sigma
        self._vectors = _vectors(self._ngrams, own, self._weights)

    def scores(
        self, images: np.ndarray, captions: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """(captions,) float64, 0 to 10: caption ``n`` against the references of image ``images[n]``.

        ``captions`` are lists of tokens, or a padded (captions, longest) array with ``lengths`` (captions,). Raises
        ValueError where their numbers differ, IndexError for an image there is not.
        """
        rows, images = Rows.of(captions, lengths), np.asarray(images, np.int64)
        if len(images) != len(rows.starts) - 1:
            raise ValueError(f"{len(images)} images for {len(rows.starts) - 1} captions")
        if len(images) and not 0 <= images.min() <= images.max() < self.num_images:
            raise IndexError(f"images are numbered from 0 to {self.num_images - 1}")
        scores = np.zeros(len(images))
        weights = self._weights, self._unseen
        _score(images, rows.words, rows.starts, self._ngrams.numbers(rows), weights, self._vectors, self._sigma, scores)
        return scores

    def _frequencies(self, documents: References) -> np.ndarray:
        """(ngrams,) int64: how many documents hold each."""
        size = self._ngrams.size
        numbers = self._ngrams.numbers(documents.rows)
        document = np.repeat(documents.image_of_row, documents.rows.lengths)
        pairs = np.unique((document * size + numbers)[numbers >= 0])
        return np.bincount(pairs % max(1, size), minlength=size)


class _NGrams:
    """Numbers for all n-grams of some sentences: a 1-gram is its token, a longer one its beginning and its last token.

    ``keys[n]`` is sorted; the number of an n-gram is its place there plus ``offsets[n]``. There are no collisions.
    """

    def __init__(self, keys: list[np.ndarray]) -> None:
        self.keys = keys
        self.offsets = np.concatenate(([0], np.cumsum([len(level) for level in keys]))).astype(np.int64)
        self.size = int(self.offsets[-1])

    @classmethod
    def of(cls, parts: Sequence[Rows]) -> _NGrams:
        ngrams = cls([np.unique(np.concatenate([rows.words for rows in parts]))])
        for _ in range(1, ORDERS):
            longer = np.concatenate([ngrams._longer(rows, ngrams._all(rows)) for rows in parts])
            ngrams = cls([*ngrams.keys, np.unique(longer[longer >= 0])])
        return ngrams

    def numbers(self, rows: Rows) -> np.ndarray:
        """(4, words) int64: the n-gram that starts at each word, -1 for an unknown one or where the row ends sooner."""
        found = np.stack(self._all(rows))
        return np.where(found >= 0, found + self.offsets[:-1, None], -1)

    def _all(self, rows: Rows) -> list[np.ndarray]:
        places = [_place(self.keys[0], rows.words)]
        for level in self.keys[1:]:
            places.append(_place(level, self._longer(rows, places)))
        return places

    def _longer(self, rows: Rows, places: list[np.ndarray]) -> np.ndarray:
        """(words,) int64 keys of the n-grams one token longer than the last of ``places``; -1 where there is none."""
        order, words = len(places), rows.words
        last = np.full(len(words), -1)
        last[: max(0, len(words) - order)] = places[0][order:]
        ends = np.repeat(rows.starts[1:], rows.lengths)
        possible = (np.arange(len(words)) + order < ends) & (last >= 0) & (places[-1] >= 0)
        return np.where(possible, places[-1] * len(self.keys[0]) + last, -1)


def _place(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of ``wanted`` stands in the sorted ``keys``; -1 where it does not."""
    places = np.searchsorted(keys, wanted)
    if not len(keys):
        return np.full(len(wanted), -1)
    return np.where(keys[np.minimum(places, len(keys) - 1)] == wanted, places, -1)


_Vectors = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _vectors(ngrams: _NGrams, references: References, weights: np.ndarray) -> _Vectors:
    """Sparse vectors of the references: of image ``i`` the rows from ``firsts[i]``, of row ``r`` the entries from
    ``starts[r]``, each an n-gram's ``numbers``, ``values`` and order; ``norms`` is (rows, 4), ``lengths`` (rows,).
    """
    rows = references.rows
    num_rows, size = len(rows.starts) - 1, max(1, ngrams.size)
    found = ngrams.numbers(rows)
    keys = (np.repeat(np.arange(num_rows), rows.lengths) * size + found)[found >= 0]
    pairs, counts = np.unique(keys, return_counts=True)
    row, number = pairs // size, pairs % size
    values = counts * weights[number] if len(pairs) else np.zeros(0)
    order = np.searchsorted(ngrams.offsets, number, side="right") - 1
    norms = np.sqrt(np.bincount(row * ORDERS + order, values**2, minlength=num_rows * ORDERS))
    starts = np.searchsorted(row, np.arange(num_rows + 1)).astype(np.int64)
    entries = np.stack((number, order)).astype(np.int32)
    return references.firsts, starts, entries, values, norms.reshape(num_rows, ORDERS), np.maximum(rows.lengths - 1, 0)


@compiled()
def _times(words: np.ndarray, start: int, end: int, place: int, size: int) -> int:
    """How often the ``size`` words at ``place`` stand between ``start`` and ``end``; 0 if they stand before, too."""
    count = 0
    for other in range(start, end - size + 1):
        same = True
        for step in range(size):
            if words[other + step] != words[place + step]:
                same = False
                break
        if same:
            if other < place:
                return 0
            count += 1
    return count


@compiled()
def _score(
    images: np.ndarray,
    words: np.ndarray,
    starts: np.ndarray,
    numbers: np.ndarray,
    weights: tuple[np.ndarray, float],
    vectors: _Vectors,
    sigma: float,
    scores: np.ndarray,
) -> None:
    known, unseen = weights
    firsts, entry_starts, entries, values, norms, lengths = vectors
    mine = np.zeros(len(known))  # the candidate's vector
    for n in range(len(images)):
        start, end = starts[n], starts[n + 1]
        norm, total = np.zeros(ORDERS), 0.0
        for order in range(ORDERS):
            for place in range(start, end - order):
                count = _times(words, start, end, place, order + 1)
                number = numbers[order, place]
                if count and number < 0:
                    norm[order] += (count * unseen) ** 2
                elif count:
                    mine[number] = count * known[number]
                    norm[order] += mine[number] ** 2
        norm = np.sqrt(norm)
        first, last = firsts[images[n]], firsts[images[n] + 1]
        for row in range(first, last):
            common = np.zeros(ORDERS)
            for entry in range(entry_starts[row], entry_starts[row + 1]):
                common[entries[1, entry]] += min(mine[entries[0, entry]], values[entry]) * values[entry]
            alike = 0.0
            for order in range(ORDERS):
                if norm[order] > 0 and norms[row, order] > 0:
                    alike += common[order] / (norm[order] * norms[row, order])
            apart = max(end - start - 1, 0) - lengths[row]
            total += alike * np.exp(-(apart**2) / (2 * sigma**2))
        scores[n] = 10 * total / (ORDERS * (last - first))
        for order in range(ORDERS):
            for place in range(start, end - order):
                if numbers[order, place] >= 0:
                    mine[numbers[order, place]] = 0
