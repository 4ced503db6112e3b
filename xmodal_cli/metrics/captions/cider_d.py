"""CIDEr-D (arXiv 1411.5726), the reward of self-critical training, with document frequencies from any references.

By default these are the evaluated references, which gives the CIDEr of the COCO evaluation. The formula is in
``metrics/cider_scorer.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.cider_scorer import CiderScorer
from xmodal_cli.metrics.token_rows import WordIds, Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 60
LABELS: dict[str, str] = {}  # the COCO evaluation prints ``cider``


def build(documents: Sequence[Sequence[Words]] | None = None, sigma: float = 6.0) -> CaptionMetric:
    """The score ``cider_d`` in [0, 10].

    ``documents`` are references of other images to count document frequencies in; ``sigma`` is the width of the length
    penalty in words. Raises ValueError if ``sigma`` is not above 0.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, not {sigma}")

    def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        word_ids = WordIds()
        rows = word_ids.encode_references(references)
        scorer = CiderScorer(rows, None if documents is None else word_ids.encode_references(documents), sigma)
        scores = scorer.scores(np.arange(len(candidates)), word_ids.encode(candidates))
        return MetricScores({"cider_d": float(scores.mean())}, {"cider_d": scores})

    return cider_d
