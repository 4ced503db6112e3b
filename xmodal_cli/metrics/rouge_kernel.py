"""ROUGE-L between many captions and many images' captions, compiled by numba. Knows numbers of words only.

ROUGE-L (Lin, 2004) as the COCO evaluation computes it: ``lcs`` is the length of the longest common subsequence of
words; ``P`` is the largest ``lcs / len(candidate)`` over the references, ``R`` the largest ``lcs / len(reference)``,
and ``F = (1 + b^2) P R / (R + b^2 P)`` with ``b = 1.2``. The subsequence is found bit by bit, a word of the reference
in four operations (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004), for candidates of up to 64 words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import prange

from xmodal_cli.numba_kernel import compiled

BETA2 = 1.2**2
WORD_BITS = 64  # words of a candidate that fit the bit-parallel way
ONE, FULL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
CHUNK = 16  # candidates per task: they share one table of masks


@dataclass(frozen=True)
class WordRows:
    """Captions as numbers of words, image by image; all numbers are below ``vocab_size``.

    Row ``r`` is ``words[starts[r]:starts[r + 1]]``; those of image ``i`` are the rows from ``firsts[i]`` to
    ``firsts[i + 1]``; caption ``c``, in the order in which captions were given, is row ``row_of[c]``.
    """

    words: np.ndarray
    starts: np.ndarray
    firsts: np.ndarray
    row_of: np.ndarray
    vocab_size: int

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]], owner: np.ndarray, num_images: int) -> WordRows:
        """From one list of word numbers per caption, and the image of each caption."""
        order = np.argsort(owner, kind="stable")
        rows = [captions[c] for c in order]
        starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        words = np.fromiter((word for row in rows for word in row), np.int64, count=int(starts[-1]))
        firsts = np.cumsum([0, *np.bincount(owner, minlength=num_images)], dtype=np.int64)
        return cls(words, starts, firsts, np.argsort(order), int(words.max(initial=0)) + 1)


def rouge_block(rows: WordRows, first: int, last: int) -> np.ndarray:
    """ROUGE-L of the captions ``first`` to ``last`` against the captions of every image: (captions, images) float64."""
    scores = np.zeros((last - first, len(rows.firsts) - 1))
    _block(rows.words, rows.starts, rows.firsts, rows.vocab_size, rows.row_of[first:last], scores)
    return scores


def rouge_pairs(rows: WordRows, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """ROUGE-L of caption ``captions[n]`` against the captions of image ``images[n]``: (pairs,) float64."""
    scores = np.zeros(len(captions))
    given = rows.row_of[captions], np.ascontiguousarray(images, np.int64)
    _pairs(rows.words, rows.starts, rows.firsts, rows.vocab_size, given, scores)
    return scores


def lcs_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common subsequence of two lists of numbers."""
    words = np.concatenate((np.asarray(a, np.int64), np.asarray(b, np.int64)))
    masks = np.zeros(int(words.max(initial=0)) + 1, np.uint64)
    _mark(words, 0, len(a), masks)
    return int(_lcs(words, (0, len(a)), (len(a), len(words)), masks))


# A sentence is told by its ends in ``words``: slices would count references, which costs more than the work itself.


@compiled()
def _mark(words: np.ndarray, start: int, end: int, masks: np.ndarray) -> None:
    """Bit ``p`` of ``masks[w]`` says that word ``w`` stands at place ``p`` of the candidate."""
    for place in range(min(end - start, WORD_BITS)):
        masks[words[start + place]] |= ONE << np.uint64(place)


@compiled()
def _unmark(words: np.ndarray, start: int, end: int, masks: np.ndarray) -> None:
    for place in range(start, end):
        masks[words[place]] = 0


@compiled()
def _lcs(words: np.ndarray, candidate: tuple[int, int], reference: tuple[int, int], masks: np.ndarray) -> int:
    if candidate[1] - candidate[0] > WORD_BITS:
        return int(_long_lcs(words, candidate, reference))
    row = FULL  # a zero bit is a place where the subsequence grows by one
    for place in range(reference[0], reference[1]):
        hits = row & masks[words[place]]
        row = (row + hits) | (row - hits)
    length = 0
    grown = ~row
    while grown:
        grown &= grown - ONE
        length += 1
    return length


@compiled()
def _long_lcs(words: np.ndarray, candidate: tuple[int, int], reference: tuple[int, int]) -> int:
    """The textbook's table, a row at a time."""
    row = np.zeros(reference[1] - reference[0] + 1, np.int64)
    for place in range(candidate[0], candidate[1]):
        diagonal = 0
        for other in range(reference[1] - reference[0]):
            above = row[other + 1]
            same = words[reference[0] + other] == words[place]
            row[other + 1] = diagonal + 1 if same else max(above, row[other])
            diagonal = above
    return int(row[-1])


@compiled()
def _rouge(
    words: np.ndarray, starts: np.ndarray, candidate: tuple[int, int], references: tuple[int, int], masks: np.ndarray
) -> float:
    """F of a marked candidate against the rows from ``references[0]`` to ``[1]``; 0 without a common word."""
    longest, recall = 0, 0.0
    for reference in range(references[0], references[1]):
        start, end = starts[reference], starts[reference + 1]
        if end > start:
            length = _lcs(words, candidate, (start, end), masks)
            longest = max(longest, length)
            recall = max(recall, length / (end - start))
    if longest == 0:
        return 0.0
    precision = longest / (candidate[1] - candidate[0])
    return (1 + BETA2) * precision * recall / (recall + BETA2 * precision)


@compiled(parallel=True)
def _block(
    words: np.ndarray, starts: np.ndarray, firsts: np.ndarray, vocab_size: int, rows: np.ndarray, scores: np.ndarray
) -> None:
    num_candidates, num_images = scores.shape
    for chunk in prange((num_candidates + CHUNK - 1) // CHUNK):
        masks = np.zeros(vocab_size, np.uint64)
        for n in range(chunk * CHUNK, min(num_candidates, chunk * CHUNK + CHUNK)):
            start, end = starts[rows[n]], starts[rows[n] + 1]
            _mark(words, start, end, masks)
            for image in range(num_images):
                references = firsts[image], firsts[image + 1]
                scores[n, image] = _rouge(words, starts, (start, end), references, masks)
            _unmark(words, start, end, masks)


@compiled()
def _pairs(
    words: np.ndarray,
    starts: np.ndarray,
    firsts: np.ndarray,
    vocab_size: int,
    pairs: tuple[np.ndarray, np.ndarray],
    scores: np.ndarray,
) -> None:
    rows, images = pairs
    masks = np.zeros(vocab_size, np.uint64)
    for n in range(len(rows)):
        start, end = starts[rows[n]], starts[rows[n] + 1]
        _mark(words, start, end, masks)
        references = firsts[images[n]], firsts[images[n] + 1]
        scores[n] = _rouge(words, starts, (start, end), references, masks)
        _unmark(words, start, end, masks)
