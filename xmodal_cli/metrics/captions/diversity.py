"""Diversity of captions: distinct-1 and distinct-2 (Li et al., arXiv 1510.03055), vocabulary size, length."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from xmodal_cli.metrics.token_rows import Words
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 70
LABELS: dict[str, str] = {}
COUNTS = ("vocabulary",)
FROM_TRAINING = ("seen_in_training",)


def build(training: Collection[Words] | None = None) -> CaptionMetric:
    """``distinct_n``: unique n-grams divided by n-grams of all candidates; ``vocabulary``: number of unique words.

    ``mean_length`` is in words; ``distinct_captions`` is the fraction of unique captions; ``seen_in_training``, only
    with ``training``, the fraction of captions that are in ``training``. References are ignored.
    """
    training_set = None if training is None else {tuple(sentence) for sentence in training}

    def diversity(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        sentences = [tuple(sentence) for sentence in candidates]
        if not sentences:
            raise ValueError("there are no candidates")
        lengths = np.array([len(sentence) for sentence in sentences], np.float64)
        per_candidate = {"mean_length": lengths}
        total = {
            "distinct_1": _distinct(sentences, 1),
            "distinct_2": _distinct(sentences, 2),
            "distinct_captions": len(set(sentences)) / len(sentences),
            "vocabulary": float(len({word for sentence in sentences for word in sentence})),
            "mean_length": float(lengths.mean()),
        }
        if training_set is not None:
            is_copy = np.array([float(sentence in training_set) for sentence in sentences])
            per_candidate["seen_in_training"] = is_copy
            total["seen_in_training"] = float(is_copy.mean())
        return MetricScores(total, per_candidate)

    return diversity


def _distinct(sentences: Sequence[tuple[str, ...]], n: int) -> float:
    """Unique n-grams divided by all n-grams; 0 if there are none."""
    ngrams = [sentence[i : i + n] for sentence in sentences for i in range(len(sentence) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0
