"""ROUGE-L between many captions and many images' captions, compiled by numba. Knows numbers of words only.

ROUGE-L (Lin, 2004) as the COCO evaluation computes it: ``lcs`` is the length of the longest common subsequence of
words; ``P`` is the largest ``lcs / len(candidate)`` over the references, ``R`` the largest ``lcs / len(reference)``,
and ``F = (1 + b^2) P R / (R + b^2 P)`` with ``b = 1.2``. The subsequence is found bit by bit, a word of the reference
in four operations (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004), for candidates of up to 64 words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numba import njit, prange

BETA2 = 1.2**2
WORD_BITS = 64  # words of a candidate that fit the bit-parallel way
ONE, FULL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
CHUNK = 16  # candidates per task: they share one table of masks


@dataclass(frozen=True)
class WordRows:
    """Captions as numbers of words: caption ``c`` is ``words[starts[c]:starts[c + 1]]``, all below ``vocab_size``.

    ``owner`` (captions,) is the image of each; ``order`` lists the captions image by image, and those of image ``i``
    are ``order[firsts[i]:firsts[i + 1]]``.
    """

    words: np.ndarray
    starts: np.ndarray
    owner: np.ndarray
    order: np.ndarray
    firsts: np.ndarray
    vocab_size: int

    @classmethod
    def of(cls, captions: Sequence[Sequence[int]], owner: np.ndarray, num_images: int) -> WordRows:
        """From one list of word numbers per caption, and the image of each caption."""
        starts = np.cumsum([0, *(len(caption) for caption in captions)], dtype=np.int64)
        words = np.fromiter((word for caption in captions for word in caption), np.int64, count=int(starts[-1]))
        owner = np.ascontiguousarray(owner, np.int64)
        firsts = np.cumsum([0, *np.bincount(owner, minlength=num_images)], dtype=np.int64)
        order = np.argsort(owner, kind="stable")
        return cls(words, starts, owner, order, firsts, int(words.max(initial=0)) + 1)


def rouge_block(rows: WordRows, first: int, last: int) -> np.ndarray:
    """ROUGE-L of the captions ``first`` to ``last`` against the captions of every image: (captions, images) float64."""
    scores = np.zeros((last - first, len(rows.firsts) - 1))
    _block(rows.words, rows.starts, (rows.order, rows.firsts), rows.vocab_size, first, scores)
    return scores


def rouge_pairs(rows: WordRows, captions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """ROUGE-L of caption ``captions[n]`` against the captions of image ``images[n]``: (pairs,) float64."""
    scores = np.zeros(len(captions))
    given = np.ascontiguousarray(captions, np.int64), np.ascontiguousarray(images, np.int64)
    _pairs(rows.words, rows.starts, (rows.order, rows.firsts), rows.vocab_size, given, scores)
    return scores


def lcs_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common subsequence of two lists of numbers."""
    first, second = np.asarray(a, np.int64), np.asarray(b, np.int64)
    masks = np.zeros(int(max(first.max(initial=0), second.max(initial=0))) + 1, np.uint64)
    _mark(first, masks)
    return int(_lcs(first, second, masks))


def _compiled(parallel: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return cast(Callable[[Callable[..., Any]], Callable[..., Any]], njit(cache=True, parallel=parallel))


@_compiled()
def _mark(candidate: np.ndarray, masks: np.ndarray) -> None:
    """Bit ``p`` of ``masks[w]`` says that word ``w`` stands at place ``p`` of the candidate."""
    for place in range(min(len(candidate), WORD_BITS)):
        masks[candidate[place]] |= ONE << np.uint64(place)


@_compiled()
def _unmark(candidate: np.ndarray, masks: np.ndarray) -> None:
    for word in candidate:
        masks[word] = 0


@_compiled()
def _lcs(candidate: np.ndarray, reference: np.ndarray, masks: np.ndarray) -> int:
    if len(candidate) > WORD_BITS:
        return int(_long_lcs(candidate, reference))
    row = FULL  # a zero bit is a place where the subsequence grows by one
    for word in reference:
        hits = row & masks[word]
        row = (row + hits) | (row - hits)
    length = 0
    grown = ~row
    while grown:
        grown &= grown - ONE
        length += 1
    return length


@_compiled()
def _long_lcs(candidate: np.ndarray, reference: np.ndarray) -> int:
    """The textbook's table, a row at a time."""
    row = np.zeros(len(reference) + 1, np.int64)
    for word in candidate:
        diagonal = 0
        for place in range(len(reference)):
            above = row[place + 1]
            row[place + 1] = diagonal + 1 if reference[place] == word else max(above, row[place])
            diagonal = above
    return int(row[-1])


@_compiled()
def _rouge(
    candidate: np.ndarray,
    references: np.ndarray,
    words: np.ndarray,
    starts: np.ndarray,
    masks: np.ndarray,
) -> float:
    """F of a marked candidate against the captions that ``references`` lists; 0 without a common word."""
    longest, recall = 0, 0.0
    for reference in references:
        start, end = starts[reference], starts[reference + 1]
        if end > start:
            length = _lcs(candidate, words[start:end], masks)
            longest = max(longest, length)
            recall = max(recall, length / (end - start))
    if longest == 0:
        return 0.0
    precision = longest / len(candidate)
    return (1 + BETA2) * precision * recall / (recall + BETA2 * precision)


@_compiled(parallel=True)
def _block(
    words: np.ndarray,
    starts: np.ndarray,
    of_images: tuple[np.ndarray, np.ndarray],
    vocab_size: int,
    first: int,
    scores: np.ndarray,
) -> None:
    order, firsts = of_images
    num_candidates, num_images = scores.shape
    for chunk in prange((num_candidates + CHUNK - 1) // CHUNK):
        masks = np.zeros(vocab_size, np.uint64)
        for row in range(chunk * CHUNK, min(num_candidates, chunk * CHUNK + CHUNK)):
            candidate = words[starts[first + row] : starts[first + row + 1]]
            _mark(candidate, masks)
            for image in range(num_images):
                references = order[firsts[image] : firsts[image + 1]]
                scores[row, image] = _rouge(candidate, references, words, starts, masks)
            _unmark(candidate, masks)


@_compiled()
def _pairs(
    words: np.ndarray,
    starts: np.ndarray,
    of_images: tuple[np.ndarray, np.ndarray],
    vocab_size: int,
    pairs: tuple[np.ndarray, np.ndarray],
    scores: np.ndarray,
) -> None:
    order, firsts = of_images
    captions, images = pairs
    masks = np.zeros(vocab_size, np.uint64)
    for n in range(len(captions)):
        candidate = words[starts[captions[n]] : starts[captions[n] + 1]]
        _mark(candidate, masks)
        references = order[firsts[images[n]] : firsts[images[n] + 1]]
        scores[n] = _rouge(candidate, references, words, starts, masks)
        _unmark(candidate, masks)
