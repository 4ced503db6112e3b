"""Captions that repeat themselves: "white and white", "in the water in the water"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from xmodal_cli.function_words import STOP_WORDS
from xmodal_cli.metrics.english_words import check_english, singular
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 81
LABELS = {"repetition": "repetition"}
PERCENT = True
LOWER_IS_BETTER = True
LONGEST = 4  # words of an n-gram that may not occur twice, whatever the words are
_IDIOMS = frozenset(
    ("arm in arm", "back to back", "cheek to cheek", "end to end", "face to face", "hand in hand", "side by side")
)


def build() -> CaptionMetric:
    """``repetition``: the fraction of captions that repeat words, in one of three ways.

    A content word is followed by itself with only function words in between ("white and white", "a dog with a dog");
    two adjacent content words occur twice ("red shirt ... red shirt"); or any four words occur twice. Singular and
    plural are the same word. "A man in blue and a man in red" is not a repetition. Idioms such as "hand in hand" are
    not either. Raises Unavailable if the references are not English.
    """
    return _repetition


def _repetition(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    check_english(references)
    repeated = np.array([float(repeats(words)) for words in candidates])
    return MetricScores({"repetition": float(repeated.mean())}, {"repetition": repeated})


def repeats(words: Words) -> bool:
    """Whether the lower-cased words of a caption repeat themselves, as described in ``build``."""
    forms = [singular(word) for word in words]
    is_content = [word not in STOP_WORDS for word in words]
    pairs = [tuple(forms[i : i + 2]) for i in range(len(forms) - 1) if is_content[i] and is_content[i + 1]]
    ngrams = [tuple(forms[i : i + LONGEST]) for i in range(len(forms) - LONGEST + 1)]
    return _has_duplicates(pairs) or _has_duplicates(ngrams) or _repeats_next(forms, is_content)


def _repeats_next(forms: Sequence[str], is_content: Sequence[bool]) -> bool:
    """Whether a content word equals the next content word."""
    positions = [position for position, content in enumerate(is_content) if content]
    return any(
        forms[first] == forms[second] and " ".join(forms[first : second + 1]) not in _IDIOMS
        for first, second in pairwise(positions)
    )


def _has_duplicates(ngrams: Sequence[tuple[str, ...]]) -> bool:
    return len(set(ngrams)) < len(ngrams)
