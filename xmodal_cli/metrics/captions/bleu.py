"""BLEU-1..4 (Papineni et al., 2002) as in the COCO evaluation: brevity penalty by the closest reference length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.bleu_scorer import ORDERS, BleuScorer
from xmodal_cli.metrics.bleu_scorer import bleu as bleu_from_counts
from xmodal_cli.metrics.token_rows import WordIds, Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 10
LABELS = {f"bleu_{n}": f"BLEU-{n}" for n in range(1, ORDERS + 1)}
PERCENT = True


def build() -> CaptionMetric:
    """The scores ``bleu_1`` to ``bleu_4`` in [0, 1]; the totals are corpus-level, not means over candidates."""
    return _bleu


def _bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    word_ids = WordIds()
    scorer = BleuScorer(word_ids.encode_references(references))
    counts = scorer.counts(np.arange(len(candidates)), word_ids.encode(candidates))
    (total,), per_candidate = bleu_from_counts(counts, corpus=True), bleu_from_counts(counts)
    names = [f"bleu_{n}" for n in range(1, ORDERS + 1)]
    return MetricScores(
        {name: float(value) for name, value in zip(names, total, strict=True)},
        dict(zip(names, per_candidate.T, strict=True)),
    )
