"""The scores of all retrieval metrics, in the order of the tables. The metrics' modules say how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xmodal_cli import catalog

LAST = 1000  # place of a metric without ORDER
PerQuery = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RetrievalScore:
    """One number of the table: ``name`` in the JSON, ``label`` in the table, and the metric over ranks.

    ``per_query`` gives values whose mean is the metric, where there are such.
    """

    name: str
    label: str
    metric: Callable[[np.ndarray], float]
    per_query: PerQuery | None = None
    digits: int = 1
    whole: bool = False

    def shown(self, value: float) -> str:
        """The value as the table prints it."""
        return f"{value:.0f}" if self.whole and value == int(value) else f"{value:.{self.digits}f}"

    def mean(self, values: list[float]) -> float:
        """The mean over folds."""
        mean = float(np.mean(values))
        return int(mean) if self.whole and mean.is_integer() else mean


def retrieval_scores() -> list[RetrievalScore]:
    """Those of every file of ``metrics/retrieval``."""
    modules = [(name, catalog.load("retrieval_metric", name)) for name in catalog.names("retrieval_metric")]
    scores = []
    for name, module in sorted(modules, key=lambda pair: (getattr(pair[1], "ORDER", LAST), pair[0])):
        for key, args in getattr(module, "SCORES", {name.replace("-", "_"): {}}).items():
            metric = catalog.build("retrieval_metric", name, args)
            label = getattr(module, "LABELS", {}).get(key, key)
            per_query = _bound(getattr(module, "per_query", None), args)
            shown = getattr(module, "DIGITS", 1), getattr(module, "WHOLE", False)
            scores.append(RetrievalScore(key, label, metric, per_query, *shown))
    return scores


def _bound(function: Callable[..., np.ndarray] | None, args: dict[str, int]) -> PerQuery | None:
    return None if function is None else lambda ranks: function(ranks, **args)
