"""Scores of taggers: mean average precision, precision and recall at k."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xmodal_cli.metrics.average_precision import average_precision, precision_recall_at
from xmodal_cli.result_json import INLINE

AT = (1, 5, 10)  # numbers of best tags


@dataclass(frozen=True)
class TagResult:
    """The scores of a tagger, fractions by name; ``tags`` is their number.

    ``scored_tags`` is the number of tags that an image of the split has; the others have no average precision.
    """

    model: str
    data: str
    split: str
    images: int
    tags: int
    scored_tags: int
    scores: dict[str, float] = field(metadata=INLINE)


def score_tags(scores: np.ndarray, positives: np.ndarray) -> dict[str, float]:
    """(images, tags) scores and (images, tags) bool -> ``map`` (fraction), ``precision_at_K`` and ``recall_at_K``.

    ``map`` is the mean over the tags that an image has; 0 if there is none.
    """
    values = average_precision(scores, positives)
    found = values[~np.isnan(values)]
    metrics = {"map": float(found.mean()) if len(found) else 0.0}
    for k in AT:
        metrics[f"precision_at_{k}"], metrics[f"recall_at_{k}"] = precision_recall_at(scores, positives, k)
    return metrics
