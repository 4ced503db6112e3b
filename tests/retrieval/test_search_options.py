"""The number of hits and the threshold of a search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.search_options import SearchOptions


@pytest.mark.parametrize("k", [1, 10**20, np.int64(3)])
def test_numbers_of_hits(k: Any) -> None:
    SearchOptions(k).check()


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", None, True, float("nan"), float("inf")])
def test_what_is_no_number_of_hits(k: Any) -> None:
    with pytest.raises(ConfigError, match="-k must be"):
        SearchOptions(k).check()


def test_a_threshold_is_a_number() -> None:
    SearchOptions(threshold=0.5).check()
    with pytest.raises(ConfigError, match="not a number"):
        SearchOptions(threshold=float("nan")).check()
