"""Average precision equals its definition, image by image, and scikit-learn; precision and recall at k by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.metrics.average_precision import average_precision, precision_recall_at


def slow_average_precision(scores, positives):
    """The area under the steps: at each threshold, what is at or above it."""
    area, last_recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        above = [bool(p) for s, p in zip(scores, positives, strict=True) if s >= threshold]
        precision, recall = sum(above) / len(above), sum(above) / int(positives.sum())
        area += (recall - last_recall) * precision
        last_recall = recall
    return area


@pytest.fixture(params=["distinct", "ties", "all equal"])
def problem(request):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 12)).astype(np.float32)
    scores = {"distinct": scores, "ties": scores.round(), "all equal": np.zeros_like(scores)}[request.param]
    positives = rng.random((40, 12)) < 0.2
    positives[:, 3], positives[:, 5] = False, True
    return scores, positives


def test_it_is_the_area_under_the_steps(problem):
    scores, positives = problem
    actual = average_precision(scores, positives)
    assert np.isnan(actual[3])
    assert actual[5] == 1
    for tag in range(12):
        if tag != 3:
            assert actual[tag] == pytest.approx(slow_average_precision(scores[:, tag], positives[:, tag]), abs=1e-12)


def test_it_equals_scikit_learn(problem):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, positives = problem
    chosen = [tag for tag in range(12) if tag != 3]
    expected = [metrics.average_precision_score(positives[:, tag], scores[:, tag]) for tag in chosen]
    np.testing.assert_allclose(average_precision(scores, positives)[chosen], expected, atol=1e-12)


def test_a_ranking_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    positives = np.array([[True], [False], [True], [False]])
    assert average_precision(scores, positives)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_precision_and_recall_at_k_by_hand():
    scores = np.array([[3.0, 2, 1, 0], [0, 1, 2, 3], [5, 5, 5, 5], [9, 0, 0, 0]])
    positives = np.array([[1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], bool)  # the last image has no tag
    assert precision_recall_at(scores, positives, 1) == pytest.approx((2 / 3, (1 / 2 + 1 / 4 + 0) / 3))
    assert precision_recall_at(scores, positives, 3) == pytest.approx(((2 + 3 + 0) / 9, (1 + 3 / 4 + 0) / 3))
    assert precision_recall_at(scores, positives, 10)[1] == 1  # no more than there are
    assert precision_recall_at(scores, np.zeros((4, 4), bool), 2) == (0, 0)
