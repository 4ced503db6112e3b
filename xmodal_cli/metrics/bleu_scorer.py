"""BLEU's counts (Papineni et al., 2002) of token lists, compiled by numba. Knows numbers of words only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.token_rows import References, Rows, Tokens
from xmodal_cli.numba_kernel import compiled

ORDERS = 4
TINY, SMALL = 1e-15, 1e-9  # as in the COCO evaluation: no guess gives 0, and nothing is divided by 0


class BleuScorer:
    """Scores captions of images whose references it was built with, as ``CiderScorer`` does."""

    def __init__(self, references: Sequence[Sequence[Tokens]] | References) -> None:
        self._references = references if isinstance(references, References) else References.of(references)

    def counts(
        self, images: np.ndarray, captions: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """(captions, 6) int64: right n-grams for n = 1..4, words, words of the reference nearest in length."""
        rows, images = Rows.of(captions, lengths), np.asarray(images, np.int64)
        if len(images) != len(rows.starts) - 1:
            raise ValueError(f"{len(images)} images for {len(rows.starts) - 1} captions")
        if len(images) and not 0 <= images.min() <= images.max() < len(self._references.firsts) - 1:
            raise IndexError(f"images are numbered from 0 to {len(self._references.firsts) - 2}")
        counts = np.zeros((len(images), ORDERS + 2), np.int64)
        own = self._references
        _count(images, rows.words, rows.starts, own.rows.words, own.rows.starts, own.firsts, counts)
        return counts

    def scores(
        self, images: np.ndarray, captions: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """(captions, 4) float64: BLEU-1..4 of each caption by itself."""
        return bleu(self.counts(images, captions, lengths))


def bleu(counts: np.ndarray, together: bool = False) -> np.ndarray:
    """(captions, 6) counts -> (captions, 4) BLEU-1..4 of each, or, ``together``, (1, 4) of the whole corpus."""
    sizes = counts[:, ORDERS]
    guesses = np.maximum(sizes[:, None] - np.arange(ORDERS), 0)
    if together:
        counts, guesses = counts.sum(0, keepdims=True), guesses.sum(0, keepdims=True)
    precisions = np.cumprod((counts[:, :ORDERS] + TINY) / (guesses + SMALL), axis=1)
    ratio = (counts[:, ORDERS] + TINY) / (counts[:, ORDERS + 1] + SMALL)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    return np.asarray(precisions ** (1 / np.arange(1, ORDERS + 1)) * brevity[:, None])


@compiled()
def _times(words: np.ndarray, start: int, end: int, wanted: np.ndarray, place: int, size: int) -> int:
    """How often the ``size`` words of ``wanted`` at ``place`` stand in ``words[start:end]``."""
    count = 0
    for other in range(start, end - size + 1):
        same = True
        for step in range(size):
            if words[other + step] != wanted[place + step]:
                same = False
                break
        count += same
    return count


@compiled()
def _count(
    images: np.ndarray,
    words: np.ndarray,
    starts: np.ndarray,
    own_words: np.ndarray,
    own_starts: np.ndarray,
    firsts: np.ndarray,
    counts: np.ndarray,
) -> None:
    for n in range(len(images)):
        start, end = starts[n], starts[n + 1]
        first, last = firsts[images[n]], firsts[images[n] + 1]
        nearest = own_starts[first + 1] - own_starts[first]
        for row in range(first + 1, last):
            size = own_starts[row + 1] - own_starts[row]
            apart, least = abs(size - (end - start)), abs(nearest - (end - start))
            if apart < least or (apart == least and size < nearest):
                nearest = size
        counts[n, ORDERS], counts[n, ORDERS + 1] = end - start, nearest
        for order in range(1, ORDERS + 1):
            for place in range(start, end - order + 1):
                if _times(words, start, place + order - 1, words, place, order):
                    continue  # counted where it stood first
                most = 0
                for row in range(first, last):
                    most = max(most, _times(own_words, own_starts[row], own_starts[row + 1], words, place, order))
                if most:
                    counts[n, order - 1] += min(most, _times(words, start, end, words, place, order))
