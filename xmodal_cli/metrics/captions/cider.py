"""CIDEr as printed by the COCO evaluation: CIDEr-D with document frequencies from the evaluated references.

The first formula of the paper, without clipping and length penalty, is not in use.
"""

from __future__ import annotations

from collections.abc import Sequence

from xmodal_cli.metrics.captions import cider_d
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 40
LABELS = {"cider": "CIDEr"}


def build() -> CaptionMetric:
    """The score ``cider`` in [0, 10]. It is always 0 for a single image."""
    metric = cider_d.build()

    def cider(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> MetricScores:
        scores = metric(candidates, references)
        return MetricScores({"cider": scores.total["cider_d"]}, {"cider": scores.per_candidate["cider_d"]})

    return cider
