"""Captions that count objects differently from all references: "two dogs" where they have three."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.english_words import check_english
from xmodal_cli.metrics.object_counts import count_objects
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 83
LABELS = {"wrong_counts": "wrong counts"}
PERCENT = True
LOWER_IS_BETTER = True


def build() -> CaptionMetric:
    """``wrong_counts``: the fraction of captions with a number of objects that no reference agrees with.

    A number is wrong if at least one reference counts the same kind of object and none gets the same number. A caption
    and a reference count as in ``metrics/object_counts.py``; persons are one kind. Raises Unavailable if the references
    are not English.
    """
    return _wrong_counts


def _wrong_counts(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    check_english(references)
    wrong = np.array([float(_is_wrong(words, texts)) for words, texts in zip(candidates, references, strict=True)])
    return MetricScores({"wrong_counts": float(wrong.mean())}, {"wrong_counts": wrong})


def _is_wrong(words: Words, references: Sequence[Words]) -> bool:
    counted = [count_objects(sentence) for sentence in references]
    for name, number in count_objects(words).items():
        numbers = {counts[name] for counts in counted if name in counts}
        if numbers and number not in numbers:
            return True
    return False
