"""ROUGE-L of many captions against the captions of many images, as word ids; compiled by numba.

ROUGE-L (Lin, 2004) as in the COCO evaluation: ``lcs`` is the length of the longest common subsequence of words, ``P``
the largest ``lcs / len(candidate)`` over the references, ``R`` the largest ``lcs / len(reference)``, and the score is
``F = (1 + b^2) P R / (R + b^2 P)`` with ``b = 1.2``. For candidates of up to 64 words, ``lcs`` is computed by a
bit-parallel algorithm (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import prange

from xmodal_cli.numba_kernel import compiled

BETA2 = 1.2**2
WORD_BITS = 64  # longest candidate of the bit-parallel algorithm
ONE, FULL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
CHUNK = 16  # candidates per task, which share one table of masks


@dataclass(frozen=True)
class WordRows:
    """Captions as word ids below ``vocab_size``, sorted by image.

    Row ``r`` is ``words[starts[r]:starts[r + 1]]``; image ``i`` has the rows ``firsts[i]`` to ``firsts[i + 1]``,
    exclusive; caption ``c`` in the original order is row ``row_of[c]``.
    """

    words: np.ndarray
    starts: np.ndarray
    firsts: np.ndarray
    row_of: np.ndarray
    vocab_size: int

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]], image_of_caption: np.ndarray, num_images: int) -> WordRows:
        """From one list of word ids per caption, and the image index of each caption (captions,)."""
        order = np.argsort(image_of_caption, kind="stable")
        rows = [captions[c] for c in order]
        starts = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        words = np.fromiter((word for row in rows for word in row), np.int64, count=int(starts[-1]))
        firsts = np.cumsum([0, *np.bincount(image_of_caption, minlength=num_images)], dtype=np.int64)
        return cls(words, starts, firsts, np.argsort(order), int(words.max(initial=0)) + 1)


def rouge_block(rows: WordRows, first: int, last: int) -> np.ndarray:
    """(captions, images) float64: ROUGE-L of the captions ``first`` to ``last``, exclusive, against every image."""
    scores = np.zeros((last - first, len(rows.firsts) - 1))
    _block(rows.words, rows.starts, rows.firsts, rows.vocab_size, rows.row_of[first:last], scores)
    return scores


def rouge_pairs(rows: WordRows, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(pairs,) float64: ROUGE-L of caption ``captions[n]`` against the captions of image ``images[n]``."""
    scores = np.zeros(len(captions))
    pairs = rows.row_of[captions], np.ascontiguousarray(images, np.int64)
    _pairs(rows.words, rows.starts, rows.firsts, rows.vocab_size, pairs, scores)
    return scores


def lcs_length(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common subsequence of two lists of word ids."""
    words = np.concatenate((np.asarray(a, np.int64), np.asarray(b, np.int64)))
    masks = np.zeros(int(words.max(initial=0)) + 1, np.uint64)
    _set_masks(words, 0, len(a), masks)
    return int(_lcs(words, (0, len(a)), (len(a), len(words)), masks))


# Sentences are passed as (start, end) in ``words``: slices in numba cost more than the computation.


@compiled()
def _set_masks(words: np.ndarray, start: int, end: int, masks: np.ndarray) -> None:
    """Set bit ``p`` of ``masks[w]`` if word ``w`` is at position ``p`` of the candidate."""
    for position in range(min(end - start, WORD_BITS)):
        masks[words[start + position]] |= ONE << np.uint64(position)


@compiled()
def _clear_masks(words: np.ndarray, start: int, end: int, masks: np.ndarray) -> None:
    for position in range(start, end):
        masks[words[position]] = 0


@compiled()
def _lcs(words: np.ndarray, candidate: tuple[int, int], reference: tuple[int, int], masks: np.ndarray) -> int:
    if candidate[1] - candidate[0] > WORD_BITS:
        return int(_long_lcs(words, candidate, reference))
    row = FULL  # the subsequence grows by one at each zero bit
    for position in range(reference[0], reference[1]):
        matches = row & masks[words[position]]
        row = (row + matches) | (row - matches)
    length = 0
    zeros = ~row
    while zeros:
        zeros &= zeros - ONE
        length += 1
    return length


@compiled()
def _long_lcs(words: np.ndarray, candidate: tuple[int, int], reference: tuple[int, int]) -> int:
    """The standard dynamic program, with one row of the table in memory."""
    row = np.zeros(reference[1] - reference[0] + 1, np.int64)
    for position in range(candidate[0], candidate[1]):
        diagonal = 0
        for other in range(reference[1] - reference[0]):
            above = row[other + 1]
            same = words[reference[0] + other] == words[position]
            row[other + 1] = diagonal + 1 if same else max(above, row[other])
            diagonal = above
    return int(row[-1])


@compiled()
def _rouge(
    words: np.ndarray, starts: np.ndarray, candidate: tuple[int, int], references: tuple[int, int], masks: np.ndarray
) -> float:
    """F of the candidate of ``masks`` against the rows ``references[0]`` to ``references[1]``; 0 without matches."""
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
            _set_masks(words, start, end, masks)
            for image in range(num_images):
                references = firsts[image], firsts[image + 1]
                scores[n, image] = _rouge(words, starts, (start, end), references, masks)
            _clear_masks(words, start, end, masks)


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
        _set_masks(words, start, end, masks)
        references = firsts[images[n]], firsts[images[n] + 1]
        scores[n] = _rouge(words, starts, (start, end), references, masks)
        _clear_masks(words, start, end, masks)
