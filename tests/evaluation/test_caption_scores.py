"""Scores of captions: order, tokenization, training captions, signature, errors."""

from __future__ import annotations

import pytest

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, ConfigError, UnknownName
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.version import __version__

CANDIDATES = ["A dog runs.", "Two men sit on a bench", "a cat"]
REFERENCES = [
    ["A brown dog runs.", "the dog is running"],
    ["Two men are on a bench.", "Men sit."],
    ["A cat, asleep!", "a cat", "cats"],
]
METRICS = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider", "spice", "cider_d"]
ERRORS = [
    "object_hallucination",
    "hallucinated_objects",
    "repetition",
    "bad_endings",
    "wrong_counts",
    "wrong_genders",
]
DIVERSITY = ["distinct_1", "distinct_2", "distinct_captions", "vocabulary", "mean_length", "seen_in_training"]


@pytest.fixture(autouse=True)
def without_java(monkeypatch, tmp_path):
    """METEOR takes seconds and has its own tests."""
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_scores_are_in_the_order_of_the_papers():
    result = score_captions(CANDIDATES, REFERENCES)
    assert list(result.scores) == [*METRICS, *DIVERSITY, *ERRORS]
    assert result == score_captions(CANDIDATES, REFERENCES, names=catalog.names("caption_metric")[::-1])
    assert set(result.unavailable) == {"meteor", "spice", "seen_in_training"}
    assert result.scores["cider"] == result.scores["cider_d"]  # with the same document frequencies


def test_scores_of_a_subset_of_metrics_are_equal():
    few = score_captions(CANDIDATES, REFERENCES, names=("cider", "bleu"))
    assert list(few.scores) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider"]
    all_scores = score_captions(CANDIDATES, REFERENCES)
    assert few.scores.items() <= all_scores.scores.items()
    assert few.unavailable == {}


def test_punctuation_and_case_count_only_without_the_tokenizer():
    pair = ["a dog runs"], [["A dog runs."]]
    assert score_captions(*pair, names=("bleu",)).scores["bleu_3"] == pytest.approx(1)
    assert score_captions(*pair, names=("bleu",), tokenize="spaces").scores["bleu_1"] == pytest.approx(1 / 3)


def test_captions_are_compared_with_the_training_set_by_their_words():
    result = score_captions(CANDIDATES, REFERENCES, names=("diversity",), training=["a CAT .", "a dog"])
    assert result.scores["seen_in_training"] == pytest.approx(1 / 3)
    assert result.scores["vocabulary"] == 9
    assert type(result.scores["vocabulary"]) is int
    assert result.unavailable == {}


def test_the_signature_has_the_protocol():
    signature = score_captions(CANDIDATES, REFERENCES, names=("bleu", "cider")).signature
    assert signature.split("|")[:3] == [f"xmodal:{__version__}", "tok:ptb", "refs:2-3"]
    assert "df=references" in signature
    few = score_captions(["a"], [["a", "b"]], names=("rouge-l",), tokenize="spaces").signature
    assert few == f"xmodal:{__version__}|tok:spaces|refs:2"


def test_invalid_arguments_raise():
    with pytest.raises(ConfigError, match="2 captions for 1 images"):
        score_captions(["a", "b"], [["a"]])
    with pytest.raises(ConfigError, match="0 captions"):
        score_captions([], [])
    with pytest.raises(BadData, match="without references"):
        score_captions(["a", "b"], [["a"], []])
    with pytest.raises(UnknownName) as caught:
        score_captions(["a"], [["a"]], names=("cidr",))
    assert caught.value.hint == "did you mean 'cider'?"
    with pytest.raises(UnknownName, match="tokenizer of captions"):
        score_captions(["a"], [["a"]], tokenize="ptbb")


def test_captions_without_words_have_zero_scores():
    result = score_captions(["...", ""], [["a dog"], ["a cat"]])
    assert [result.scores[name] for name in ("rouge_l", "cider", "vocabulary", "mean_length")] == [0, 0, 0, 0]
    assert result.scores["bleu_1"] < 1e-6


def test_error_rates_are_null_for_other_languages():
    result = score_captions(["ein Hund"], [["ein Hund läuft über die Wiese"]])
    assert [result.scores[name] for name in ERRORS] == [None] * len(ERRORS)
    assert {"the references do not look like English" in result.unavailable[name] for name in ERRORS} == {True}
