"""CIDEr-D (arXiv 1411.5726), with document frequencies of one's choice: what self-critical training optimises.

With those of the references themselves it is the COCO evaluation's CIDEr. The formula is in ``_cider.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.cider_scorer import CiderScorer
from xmodal_cli.metrics.token_rows import Numbering, Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 60
LABELS: dict[str, str] = {}  # the COCO evaluation prints ``cider``


def build(documents: Sequence[Sequence[Words]] | None = None, sigma: float = 6.0) -> CaptionMetric:
    """A metric from 0 to 10, named ``cider_d``.

    ``documents`` are the references of other images, in which to count how rare an n-gram is; ``sigma`` is the length
    penalty's width in words. Raises ValueError where ``sigma`` is not above 0.
    """
    if sigma <= 0:
        raise ValueError(f"sigma must be above 0, not {sigma}")

    def cider_d(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
        check_pairs(candidates, references)
        numbering = Numbering()
        own = numbering.references(references)
        scorer = CiderScorer(own, None if documents is None else numbering.references(documents), sigma)
        each = scorer.scores(np.arange(len(candidates)), numbering.sentences(candidates))
        return MetricScores({"cider_d": float(each.mean())}, {"cider_d": each})

    return cider_d
