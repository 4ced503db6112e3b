"""BLEU-1..4 (Papineni et al., 2002) as in the COCO evaluation: the reference nearest in length, the shorter of two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.bleu_scorer import ORDERS, BleuScorer
from xmodal_cli.metrics.bleu_scorer import bleu as from_counts
from xmodal_cli.metrics.token_rows import Numbering, Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 10
LABELS = {f"bleu_{n}": f"BLEU-{n}" for n in range(1, ORDERS + 1)}
PERCENT = True


def build() -> CaptionMetric:
    """A metric from 0 to 1, named ``bleu_1`` to ``bleu_4``: the total is the corpus's, no mean of captions'."""
    return _bleu


def _bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    numbering = Numbering()
    scorer = BleuScorer(numbering.references(references))
    counts = scorer.counts(np.arange(len(candidates)), numbering.sentences(candidates))
    (total,), each = from_counts(counts, together=True), from_counts(counts)
    names = [f"bleu_{order}" for order in range(1, ORDERS + 1)]
    return MetricScores(
        {name: float(value) for name, value in zip(names, total, strict=True)},
        dict(zip(names, each.T, strict=True)),
    )
