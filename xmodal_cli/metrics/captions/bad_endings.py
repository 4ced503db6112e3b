"""Captions that end unfinished: on a determiner, a preposition or a conjunction, or cut at the maximum length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.english_words import check_english
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 82
LABELS = {"bad_endings": "bad endings"}
PERCENT = True
LOWER_IS_BETTER = True
# without words that can end a sentence: prepositions that are adverbs too (by, in, on, over, through), "her", "that"
_WORDS = """
a an the this these my your his its our their every two three four
of with to from at into onto for against among amongst amid between beside towards toward during upon via near
than as like and or but nor while when where which who whose whom because if although though until unless
is are was were be been am has have had
"""
UNFINISHED = frozenset(_WORDS.split())


def build(max_length: int | None = None) -> CaptionMetric:
    """``bad_endings``: the fraction of captions that are empty, end on a word of ``UNFINISHED``, or were cut.

    ``max_length`` is the maximum length of decoding in words, if it is known: captions that have it count as cut.
    Raises Unavailable if the references are not English.
    """

    def bad_endings(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        check_english(references)
        unfinished = np.array([float(_is_unfinished(words, max_length)) for words in candidates])
        return MetricScores({"bad_endings": float(unfinished.mean())}, {"bad_endings": unfinished})

    return bad_endings


def _is_unfinished(words: Words, max_length: int | None) -> bool:
    return not words or words[-1] in UNFINISHED or (max_length is not None and len(words) >= max_length)
