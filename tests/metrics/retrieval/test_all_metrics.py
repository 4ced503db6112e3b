"""The retrieval metrics of ranks, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError

RANKS = np.array([1, 2, 5, 6, 10, 11, 100, 1])


@pytest.mark.parametrize(("k", "hits"), [(1, 2), (2, 3), (5, 4), (10, 6), (1000, 8)])
def test_recall_is_the_percentage_of_ranks_up_to_k(k, hits):
    assert catalog.build("retrieval_metric", "recall", {"k": k})(RANKS) == pytest.approx(100 * hits / 8)


def test_recall_at_0_is_rejected():
    with pytest.raises(ConfigError, match="at least 1"):
        catalog.build("retrieval_metric", "recall", {"k": 0})


@pytest.mark.parametrize(
    ("ranks", "median"),
    [([1], 1), ([1, 2], 1), ([1, 3], 2), ([1, 2, 3], 2), ([4, 1, 8, 2], 3), ([4, 1, 7, 2], 3), ([2, 5], 3)],
)
def test_the_median_of_0_based_ranks_is_floored(ranks, median):
    """``floor(median(ranks)) + 1`` as in Kiros' code: [2, 5] is [1, 4] 0-based, with the median 2.5, floored to 2."""
    assert catalog.build("retrieval_metric", "median-rank", {})(np.array(ranks)) == median


def test_the_mean_rank_is_1_based():
    assert catalog.build("retrieval_metric", "mean-rank", {})(np.array([1, 1])) == 1.0
    assert catalog.build("retrieval_metric", "mean-rank", {})(RANKS) == pytest.approx(136 / 8)


@pytest.mark.parametrize("name", catalog.names("retrieval_metric"))
def test_every_metric_is_documented_and_returns_a_float(name):
    module = catalog.load("retrieval_metric", name)
    assert module.__doc__
    assert module.build.__doc__
    value = catalog.build("retrieval_metric", name, {})(RANKS)
    assert type(value) is float
    better = catalog.build("retrieval_metric", name, {})(np.ones(8, np.int64))
    assert better >= value if name == "recall" else better <= value
