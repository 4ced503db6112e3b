"""How rich captions are, whatever they tell: distinct-1 and -2 (Li et al., arXiv 1510.03055), vocabulary, length."""

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
    """``distinct_n``: different n-grams per n-gram of all candidates; ``vocabulary``: how many different words.

    ``mean_length`` counts words; ``distinct_captions`` is the share of different captions among all;
    ``seen_in_training`` the share of captions that are among ``training``, where it is given. References are not read.
    """
    seen = None if training is None else {tuple(sentence) for sentence in training}

    def diversity(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        sentences = [tuple(sentence) for sentence in candidates]
        if not sentences:
            raise ValueError("there are no candidates")
        lengths = np.array([len(sentence) for sentence in sentences], np.float64)
        each = {"mean_length": lengths}
        total = {
            "distinct_1": _distinct(sentences, 1),
            "distinct_2": _distinct(sentences, 2),
            "distinct_captions": len(set(sentences)) / len(sentences),
            "vocabulary": float(len({word for sentence in sentences for word in sentence})),
            "mean_length": float(lengths.mean()),
        }
        if seen is not None:
            each["seen_in_training"] = np.array([float(sentence in seen) for sentence in sentences])
            total["seen_in_training"] = float(each["seen_in_training"].mean())
        return MetricScores(total, each)

    return diversity


def _distinct(sentences: Sequence[tuple[str, ...]], n: int) -> float:
    """Different n-grams over all n-grams; 0 where there is none."""
    ngrams = [sentence[i : i + n] for sentence in sentences for i in range(len(sentence) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0
