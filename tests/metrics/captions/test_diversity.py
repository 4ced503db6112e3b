"""Distinct n-grams, vocabulary, length and captions of the training set, counted by hand."""

from __future__ import annotations

import pytest

from xmodal_cli import catalog

CAPTIONS = [["a", "dog", "runs"], ["a", "dog", "runs"], ["a", "cat"], []]


def test_scores_counted_by_hand():
    training = {("a", "dog", "runs"), ("the", "cat")}
    scores = catalog.build("caption_metric", "diversity", {"training": training})(CAPTIONS, [[]] * 4)
    assert scores.total == {
        "distinct_1": 4 / 8,  # a, dog, runs, cat
        "distinct_2": 3 / 5,  # a dog, dog runs, a cat
        "distinct_captions": 3 / 4,
        "vocabulary": 4,
        "mean_length": 2.0,
        "seen_in_training": 0.5,
    }
    assert scores.per_candidate["seen_in_training"].tolist() == [1, 1, 0, 0]
    assert scores.per_candidate["mean_length"].tolist() == [3, 3, 2, 0]


def test_without_training_captions_there_is_no_score_of_them():
    diversity = catalog.build("caption_metric", "diversity", {})
    assert "seen_in_training" not in diversity(CAPTIONS, []).total
    assert diversity([[]], []).total["distinct_2"] == 0
    with pytest.raises(ValueError, match="no candidates"):
        diversity([], [])
