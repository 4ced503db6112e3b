"""CIDEr as the COCO evaluation prints it: CIDEr-D with document frequencies from the references it is given.

The paper's first formula, without clipping and length penalty, is not what any table of the last ten years shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from xmodal_cli.metrics.captions import cider_d
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 40
LABELS = {"cider": "CIDEr"}


def build() -> CaptionMetric:
    """A metric from 0 to 10, named ``cider``. Of one image alone it is always 0."""
    same = cider_d.build()

    def cider(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> MetricScores:
        scores = same(candidates, references)
        return MetricScores({"cider": scores.total["cider_d"]}, {"cider": scores.each["cider_d"]})

    return cider
