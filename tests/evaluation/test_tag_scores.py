"""The scores of a tagger: the mean over the tags that occur."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.evaluation.tag_scores import score_tags


def test_tags_without_an_image_are_left_out_of_the_mean():
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]], np.float32)
    positives = np.array([[True, True, False], [False, False, False]])
    metrics = score_tags(scores, positives)
    assert metrics["map"] == pytest.approx((1 + 0.5) / 2)
    assert (metrics["precision_at_1"], metrics["recall_at_1"]) == (1, 0.5)
    assert metrics["recall_at_5"] == metrics["recall_at_10"] == 1


def test_no_tag_at_all_is_zero():
    assert set(score_tags(np.zeros((2, 3)), np.zeros((2, 3), bool)).values()) == {0}
