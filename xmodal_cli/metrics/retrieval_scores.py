"""The scores of all retrieval metrics, in table order, formatted as declared by the metric modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.metrics.retrieval.recall import K, recalls

LAST = 1000  # sort key of a metric without ORDER
PerQuery = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RetrievalScore:
    """One score: ``name`` in the JSON, ``label`` in the table, ``metric`` from ranks (queries,) to a score.

    ``per_query`` computes (queries,) values whose mean is the metric; None if the metric is not such a mean.
    """

    name: str
    label: str
    metric: Callable[[np.ndarray], float]
    per_query: PerQuery | None = None
    digits: int = 1
    whole: bool = False
    lower_is_better: bool = False

    def format(self, value: float) -> str:
        """The value as printed in the table."""
        return f"{value:.0f}" if self.whole and value == int(value) else f"{value:.{self.digits}f}"

    def mean(self, values: list[float]) -> float:
        """The mean over folds."""
        mean = float(np.mean(values))
        return int(mean) if self.whole and mean.is_integer() else mean


def retrieval_scores(top_k: Sequence[int] = K) -> list[RetrievalScore]:
    """The scores of every metric in ``metrics/retrieval``, in table order; R@K for each of ``top_k``."""
    modules = [(name, catalog.load("retrieval_metric", name)) for name in catalog.names("retrieval_metric")]
    scores = []
    for name, module in sorted(modules, key=lambda pair: (getattr(pair[1], "ORDER", LAST), pair[0])):
        declared = getattr(module, "SCORES", {name.replace("-", "_"): {}})
        for key, args in (recalls(top_k) if name == "recall" else declared).items():
            metric = catalog.build("retrieval_metric", name, args)
            label = getattr(module, "LABELS", {}).get(key, key)
            per_query = _bind_args(getattr(module, "per_query", None), args)
            number_format = getattr(module, "DIGITS", 1), getattr(module, "WHOLE", False)
            lower = getattr(module, "LOWER_IS_BETTER", False)
            scores.append(RetrievalScore(key, label, metric, per_query, *number_format, lower))
    return scores


def _bind_args(function: Callable[..., np.ndarray] | None, args: dict[str, int]) -> PerQuery | None:
    return None if function is None else lambda ranks: function(ranks, **args)
