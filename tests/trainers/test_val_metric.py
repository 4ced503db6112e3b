"""The val metric of a run by its name."""

from __future__ import annotations

import pytest

from xmodal_cli.errors import Unavailable, UnknownName
from xmodal_cli.trainers.val_metric import caption_metric, retrieval_metric

METRICS = {"rsum": 90.0, "image_to_text R@1": 10.0, "text_to_image R@1": 30.0, "text_to_image mean_rank": 7.0}


@pytest.mark.parametrize(
    ("name", "value", "lower"),
    [
        ("", 90.0, False),
        ("rsum", 90.0, False),
        ("R@1", 20.0, False),
        ("text_to_image R@1", 30.0, False),
        ("text_to_image mean_rank", 7.0, True),
    ],
)
def test_metrics_of_a_matcher(name, value, lower):
    metric = retrieval_metric(name)
    metrics = metric.add_to(METRICS)
    assert (metrics[metric.name], metric.lower_is_better) == (value, lower)
    assert {key: metrics[key] for key in METRICS} == METRICS


def test_the_ranks_of_both_directions_are_averaged():
    metric = retrieval_metric("median_rank")
    both = {"image_to_text median_rank": 4.0, "text_to_image median_rank": 7.0}
    assert (metric.add_to(both)["median_rank"], metric.lower_is_better) == (5.5, True)


@pytest.mark.parametrize("name", ["bleu_4", "bleu_1", "cider", "rouge_l", "cider_d"])
def test_metrics_of_a_captioner(name):
    try:
        assert caption_metric(name).name == name
    except UnknownName:
        assert name == "cider_d"  # has the column of cider


def test_error_rates_of_captions_are_minimized():
    assert caption_metric("repetition").lower_is_better
    assert caption_metric("repetition").component == "repetition"
    assert not caption_metric("bleu_4").lower_is_better


@pytest.mark.parametrize(
    ("find", "name", "hint"),
    [
        (retrieval_metric, "R@2", "did you mean"),
        (retrieval_metric, "cider", "known: "),
        (caption_metric, "bleu4", "did you mean 'bleu_"),
        (caption_metric, "rsum", "rouge_l"),
    ],
)
def test_an_unknown_metric_is_an_error(find, name, hint):
    with pytest.raises(UnknownName) as caught:
        find(name)
    assert hint in caught.value.hint


def test_a_metric_that_needs_java_is_refused_at_once_without_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match=r"training\.metric=meteor is not available: Java is not installed"):
        caption_metric("meteor")
