"""BLEU (Papineni et al., 2002) of token ids: the n-gram counts, compiled by numba, and the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.token_rows import References, Rows, Tokens
from xmodal_cli.numba_kernel import compiled

ORDERS = 4
TINY, SMALL = 1e-15, 1e-9  # smoothing of the COCO evaluation: of numerators and of denominators


class BleuScorer:
    """Scores captions against the references of their images, like ``CiderScorer``."""

    def __init__(self, references: Sequence[Sequence[Tokens]] | References) -> None:
        self._references = references if isinstance(references, References) else References.of(references)

    def counts(
        self, images: np.ndarray, captions: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """(captions, 6) int64: clipped n-gram matches for n = 1..4, caption length, closest reference length.

        ``images`` and ``captions`` are as in ``CiderScorer.scores``. Raises ValueError, IndexError.
        """
        rows, images = Rows.of(captions, lengths), np.asarray(images, np.int64)
        if len(images) != len(rows.starts) - 1:
            raise ValueError(f"{len(images)} images for {len(rows.starts) - 1} captions")
        references = self._references
        if len(images) and not 0 <= images.min() <= images.max() < len(references.firsts) - 1:
            raise IndexError(f"image indices must be in [0, {len(references.firsts) - 2}]")
        counts = np.zeros((len(images), ORDERS + 2), np.int64)
        _count(
            images, rows.words, rows.starts, references.rows.words, references.rows.starts, references.firsts, counts
        )
        return counts

    def scores(
        self, images: np.ndarray, captions: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None
    ) -> np.ndarray:
        """(captions, 4) float64: sentence-level BLEU-1..4. Arguments and errors are those of ``counts``."""
        return bleu(self.counts(images, captions, lengths))


def bleu(counts: np.ndarray, corpus: bool = False) -> np.ndarray:
    """(captions, 6) counts -> (captions, 4) sentence-level BLEU-1..4, or (1, 4) corpus-level with ``corpus``."""
    lengths = counts[:, ORDERS]
    num_ngrams = np.maximum(lengths[:, None] - np.arange(ORDERS), 0)
    if corpus:
        counts, num_ngrams = counts.sum(0, keepdims=True), num_ngrams.sum(0, keepdims=True)
    precisions = np.cumprod((counts[:, :ORDERS] + TINY) / (num_ngrams + SMALL), axis=1)
    ratio = (counts[:, ORDERS] + TINY) / (counts[:, ORDERS + 1] + SMALL)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    return np.asarray(precisions ** (1 / np.arange(1, ORDERS + 1)) * brevity[:, None])


@compiled()
def _occurrences(words: np.ndarray, start: int, end: int, source: np.ndarray, position: int, n: int) -> int:
    """The number of occurrences of the n-gram ``source[position:position + n]`` in ``words[start:end]``."""
    count = 0
    for other in range(start, end - n + 1):
        same = True
        for offset in range(n):
            if words[other + offset] != source[position + offset]:
                same = False
                break
        count += same
    return count


@compiled()
def _count(
    images: np.ndarray,
    words: np.ndarray,
    starts: np.ndarray,
    ref_words: np.ndarray,
    ref_starts: np.ndarray,
    firsts: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Write ``counts`` (captions, 6), see ``BleuScorer.counts``; of equally close references the shorter counts."""
    for caption in range(len(images)):
        start, end = starts[caption], starts[caption + 1]
        first, last = firsts[images[caption]], firsts[images[caption] + 1]
        closest = ref_starts[first + 1] - ref_starts[first]
        for row in range(first + 1, last):
            length = ref_starts[row + 1] - ref_starts[row]
            distance, min_distance = abs(length - (end - start)), abs(closest - (end - start))
            if distance < min_distance or (distance == min_distance and length < closest):
                closest = length
        counts[caption, ORDERS], counts[caption, ORDERS + 1] = end - start, closest
        for n in range(1, ORDERS + 1):
            for position in range(start, end - n + 1):
                if _occurrences(words, start, position + n - 1, words, position, n):
                    continue  # counted at its first occurrence
                most = 0
                for row in range(first, last):
                    in_row = _occurrences(ref_words, ref_starts[row], ref_starts[row + 1], words, position, n)
                    most = max(most, in_row)
                if most:
                    counts[caption, n - 1] += min(most, _occurrences(words, start, end, words, position, n))
