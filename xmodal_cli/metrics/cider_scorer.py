"""CIDEr-D (arXiv 1411.5726) of token ids, with reference vectors that are computed once.

For n = 1..4 the vector of a sentence has, per n-gram, its count times log(documents / documents with the n-gram), where
a document is the set of references of one image. The score of a candidate c and a reference r is the mean over n of

    10 * sum_g min(c_g, r_g) * r_g / (|c| |r|) * exp(-(len(c) - len(r))^2 / (2 sigma^2))

and is averaged over the references. As in the code of the authors and of COCO, lengths count 2-grams: the number of
words minus one. The document frequency is at least 1. This is the score that the COCO evaluation prints as CIDEr.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.token_rows import References, Rows, Tokens
from xmodal_cli.numba_kernel import compiled

ORDERS = 4


class CiderScorer:
    """Scores captions against the references of their images; used by the metrics and by self-critical training.

    Captions and references are lists of token ids. EOS is a token like any other, if it is included.
    """

    def __init__(
        self,
        references: Sequence[Sequence[Tokens]] | References,
        documents: Sequence[Sequence[Tokens]] | References | None = None,
        sigma: float = 6.0,
    ) -> None:
        """Document frequencies are counted in ``documents``, by default in ``references``.

        Raises ValueError for an image without references.
        """
        references = references if isinstance(references, References) else References.of(references)
        documents = documents if isinstance(documents, References | None) else References.of(documents)
        corpus = references if documents is None else documents
        self.num_images, self.num_documents = len(references.firsts) - 1, len(corpus.firsts) - 1
        self._ngrams = _NGrams.of([references.rows] if documents is None else [references.rows, documents.rows])
        self._unseen = float(np.log(max(1, self.num_documents)))
        self._weights = self._unseen - np.log(np.maximum(1, self._frequencies(corpus)))
        self._sigma = sigma
        self._vectors = _vectors(self._ngrams, references, self._weights)

    def scores(
        self, images: np.ndarray, captions: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """(captions,) float64 in [0, 10]: caption ``n`` against the references of image ``images[n]``.

        ``captions`` are lists of token ids, or a padded (captions, longest) array with ``lengths`` (captions,). Raises
        ValueError if ``images`` and ``captions`` differ in length, IndexError for an image index out of range.
        """
        rows, images = Rows.of(captions, lengths), np.asarray(images, np.int64)
        if len(images) != len(rows.starts) - 1:
            raise ValueError(f"{len(images)} images for {len(rows.starts) - 1} captions")
        if len(images) and not 0 <= images.min() <= images.max() < self.num_images:
            raise IndexError(f"image indices must be in [0, {self.num_images - 1}]")
        scores = np.zeros(len(images))
        weights = self._weights, self._unseen
        _score(images, rows.words, rows.starts, self._ngrams.ids(rows), weights, self._vectors, self._sigma, scores)
        return scores

    def _frequencies(self, documents: References) -> np.ndarray:
        """(ngrams,) int64: the document frequencies."""
        size = self._ngrams.size
        ids = self._ngrams.ids(documents.rows)
        document = np.repeat(documents.image_of_row, documents.rows.lengths)
        pairs = np.unique((document * size + ids)[ids >= 0])
        return np.bincount(pairs % max(1, size), minlength=size)


class _NGrams:
    """Ids of n-grams, without collisions.

    The key of a 1-gram is its token, that of a longer n-gram is made of the id of its first n - 1 tokens and its last
    token. ``keys[n]`` is sorted; the id of an n-gram is its index there plus ``offsets[n]``.
    """

    def __init__(self, keys: list[np.ndarray]) -> None:
        self.keys = keys
        self.offsets = np.concatenate(([0], np.cumsum([len(level) for level in keys]))).astype(np.int64)
        self.size = int(self.offsets[-1])

    @classmethod
    def of(cls, parts: Sequence[Rows]) -> _NGrams:
        ngrams = cls([np.unique(np.concatenate([rows.words for rows in parts]))])
        for _ in range(1, ORDERS):
            longer = np.concatenate([ngrams._longer(rows, ngrams._indices(rows)) for rows in parts])
            ngrams = cls([*ngrams.keys, np.unique(longer[longer >= 0])])
        return ngrams

    def ids(self, rows: Rows) -> np.ndarray:
        """(4, words) int64: the id of the n-gram that starts at each word; -1 if unknown or longer than its row."""
        indices = np.stack(self._indices(rows))
        return np.where(indices >= 0, indices + self.offsets[:-1, None], -1)

    def _indices(self, rows: Rows) -> list[np.ndarray]:
        """Per order (words,) int64: the index in ``keys`` of the n-gram that starts at each word, or -1."""
        indices = [_index_of(self.keys[0], rows.words)]
        for level in self.keys[1:]:
            indices.append(_index_of(level, self._longer(rows, indices)))
        return indices

    def _longer(self, rows: Rows, indices: list[np.ndarray]) -> np.ndarray:
        """(words,) int64 keys of the n-grams one token longer than the last of ``indices``; -1 if there is none."""
        order, words = len(indices), rows.words
        last = np.full(len(words), -1)
        last[: max(0, len(words) - order)] = indices[0][order:]
        ends = np.repeat(rows.starts[1:], rows.lengths)
        is_valid = (np.arange(len(words)) + order < ends) & (last >= 0) & (indices[-1] >= 0)
        return np.where(is_valid, indices[-1] * len(self.keys[0]) + last, -1)


def _index_of(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(values,) int64: the index of each value in the sorted ``keys``; -1 if it is missing."""
    if not len(keys):
        return np.full(len(values), -1)
    indices = np.searchsorted(keys, values)
    return np.where(keys[np.minimum(indices, len(keys) - 1)] == values, indices, -1)


_Vectors = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _vectors(ngrams: _NGrams, references: References, weights: np.ndarray) -> _Vectors:
    """Sparse vectors of the references: ``firsts starts entries values norms lengths``.

    Image ``i`` has the rows from ``firsts[i]`` on, row ``r`` the entries from ``starts[r]`` on. ``entries`` (2,
    entries) are n-gram ids and orders, ``values`` (entries,); ``norms`` is (rows, 4), ``lengths`` (rows,).
    """
    rows = references.rows
    num_rows, size = len(rows.starts) - 1, max(1, ngrams.size)
    ids = ngrams.ids(rows)
    keys = (np.repeat(np.arange(num_rows), rows.lengths) * size + ids)[ids >= 0]
    pairs, counts = np.unique(keys, return_counts=True)
    row, ngram = pairs // size, pairs % size
    values = counts * weights[ngram] if len(pairs) else np.zeros(0)
    order = np.searchsorted(ngrams.offsets, ngram, side="right") - 1
    norms = np.sqrt(np.bincount(row * ORDERS + order, values**2, minlength=num_rows * ORDERS))
    starts = np.searchsorted(row, np.arange(num_rows + 1)).astype(np.int64)
    entries = np.stack((ngram, order)).astype(np.int32)
    return references.firsts, starts, entries, values, norms.reshape(num_rows, ORDERS), np.maximum(rows.lengths - 1, 0)


@compiled()
def _occurrences(words: np.ndarray, start: int, end: int, position: int, n: int) -> int:
    """The count of the n-gram at ``position`` in ``words[start:end]``; 0 unless it is its first occurrence."""
    count = 0
    for other in range(start, end - n + 1):
        same = True
        for offset in range(n):
            if words[other + offset] != words[position + offset]:
                same = False
                break
        if same:
            if other < position:
                return 0
            count += 1
    return count


@compiled()
def _score(
    images: np.ndarray,
    words: np.ndarray,
    starts: np.ndarray,
    ids: np.ndarray,
    weights: tuple[np.ndarray, float],
    vectors: _Vectors,
    sigma: float,
    scores: np.ndarray,
) -> None:
    """Write ``scores`` (captions,); ``ids`` (4, words) are the n-gram ids of the captions."""
    idf, unseen_idf = weights
    firsts, entry_starts, entries, values, norms, lengths = vectors
    candidate = np.zeros(len(idf))  # the vector of the candidate, dense
    for n in range(len(images)):
        start, end = starts[n], starts[n + 1]
        norm, total = np.zeros(ORDERS), 0.0
        for order in range(ORDERS):
            for position in range(start, end - order):
                count = _occurrences(words, start, end, position, order + 1)
                ngram = ids[order, position]
                if count and ngram < 0:
                    norm[order] += (count * unseen_idf) ** 2
                elif count:
                    candidate[ngram] = count * idf[ngram]
                    norm[order] += candidate[ngram] ** 2
        norm = np.sqrt(norm)
        first, last = firsts[images[n]], firsts[images[n] + 1]
        for row in range(first, last):
            dot = np.zeros(ORDERS)
            for entry in range(entry_starts[row], entry_starts[row + 1]):
                dot[entries[1, entry]] += min(candidate[entries[0, entry]], values[entry]) * values[entry]
            cosines = 0.0
            for order in range(ORDERS):
                if norm[order] > 0 and norms[row, order] > 0:
                    cosines += dot[order] / (norm[order] * norms[row, order])
            difference = max(end - start - 1, 0) - lengths[row]
            total += cosines * np.exp(-(difference**2) / (2 * sigma**2))
        scores[n] = 10 * total / (ORDERS * (last - first))
        for order in range(ORDERS):
            for position in range(start, end - order):
                if ids[order, position] >= 0:
                    candidate[ids[order, position]] = 0
