"""Repeated words: examples, and every caption of two words against a direct definition."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from xmodal_cli import catalog
from xmodal_cli.metrics.captions.repetition import repeats


@pytest.mark.parametrize(
    "text",
    [
        "a white and white dog",
        "a cement cement wall",
        "a dog with a dog",
        "a dog and two dogs",
        "in the water in the water",
        "a red shirt and blue pants in a red shirt",
        "a man on the left of it and a man on the left",
    ],
)
def test_repetitions(text):
    assert repeats(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dog",
        "a white dog and a white cat",
        "a man in blue and a man in red",
        "two dogs run side by side",
        "the boy in the pool in the yard",
    ],
)
def test_captions_that_do_not_repeat(text):
    assert not repeats(text.split())


def test_the_score_is_the_fraction_of_captions():
    captions = [["a", "red", "and", "red", "bike"], ["a", "dog"], [], ["the", "the"]]
    scores = catalog.build("caption_metric", "repetition", {})(captions, [[["a", "dog"]]] * 4)
    assert scores.total == {"repetition": 0.25}
    assert scores.per_candidate["repetition"].tolist() == [1, 0, 0, 0]


def test_short_captions_against_brute_force():
    """Of at most four words, only equal content words that follow each other can repeat (or a pair, which has them)."""
    content, function = ("dog", "red"), ("a", "and")
    for length in range(5):
        for words in product(content + function, repeat=length):
            rest = [word for word in words if word in content]
            pairs = [pair for pair in pairwise(words) if set(pair) <= set(content)]
            expected = any(a == b for a, b in pairwise(rest)) or len(set(pairs)) < len(pairs)
            assert repeats(words) == expected, words
