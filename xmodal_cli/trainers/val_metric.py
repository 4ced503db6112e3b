"""The val metric that decides which model of a run is the best: ``training.metric``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xmodal_cli.errors import Unavailable, UnknownName
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.evaluation.scoring import DIRECTIONS
from xmodal_cli.evaluation.tag_scores import score_tags
from xmodal_cli.metrics.caption_columns import sorted_columns
from xmodal_cli.metrics.retrieval_scores import retrieval_scores

CAPTION_METRICS = ("bleu", "cider", "diversity")  # computed on val after every epoch
NOT_A_SCORE = "diversity"  # describes captions; neither more nor less of it is better


@dataclass(frozen=True)
class ValMetric:
    """``name`` in the metrics of an evaluation; ``sides`` are the metrics whose mean it is, empty if it is one itself.

    ``component`` is the caption metric that computes it.
    """

    name: str
    sides: tuple[str, ...] = ()
    lower_is_better: bool = False
    component: str = ""

    def add_to(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The metrics with this one, if it is a mean over both directions."""
        if not self.sides:
            return dict(metrics)
        return {**metrics, self.name: sum(metrics[side] for side in self.sides) / len(self.sides)}


def retrieval_metric(name: str) -> ValMetric:
    """``rsum`` (also for ""), a metric of one direction (``text_to_image R@1``), or the mean of both (``R@1``).

    Raises UnknownName.
    """
    known = {"rsum": ValMetric("rsum")}
    for score in retrieval_scores():
        sides = tuple(f"{side} {score.name}" for side in DIRECTIONS)
        known[score.name] = ValMetric(score.name, sides, score.lower_is_better)
        known |= {side: ValMetric(side, (), score.lower_is_better) for side in sides}
    return _find(name or "rsum", known)


def caption_metric(name: str) -> ValMetric:
    """A caption metric by the name of its score, ``cider`` for "". Raises UnknownName, Unavailable."""
    known = {
        score: ValMetric(score, (), column.lower_is_better, column.metric)
        for column in sorted_columns()
        if column.metric != NOT_A_SCORE
        for score in column.labels
    }
    metric = _find(name or "cider", known)
    if metric.component not in CAPTION_METRICS:
        trial = score_captions(["a dog"], [["a dog"]], names=(metric.component,))
        if trial.scores.get(metric.name) is None:
            reason = trial.unavailable.get(metric.name, "it cannot be computed")
            hint = "use another one, for example --set training.metric=cider"
            raise Unavailable(f"training.metric={metric.name} is not available: {reason}", hint)
    return metric


def tag_metric(name: str) -> str:
    """The name of a metric of tags, ``map`` for "". Raises UnknownName."""
    known = score_tags(np.eye(2, dtype=np.float32), np.eye(2, dtype=bool))
    if (name or "map") not in known:
        raise UnknownName.of("val metric", name, known)
    return name or "map"


def _find(name: str, known: Mapping[str, ValMetric]) -> ValMetric:
    if name not in known:
        raise UnknownName.of("val metric", name, known)
    return known[name]
