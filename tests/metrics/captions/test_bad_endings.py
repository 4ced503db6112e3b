"""Unfinished captions: last words, empty captions, the maximum length."""

from __future__ import annotations

import pytest

from xmodal_cli import catalog
from xmodal_cli.evaluation.caption_scores import score_captions

REFERENCES = [[["a", "dog", "in", "the", "snow"]]]


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", 1),
        ("a dog on a", 1),
        ("a man and", 1),
        ("a boy with", 1),
        ("a dog in front of", 1),
        ("the woman is", 1),
        ("a man holding his", 1),
        ("a dog", 0),
        ("a boy looks on", 0),
        ("a car drives by", 0),
        ("a man talks to her", 0),
    ],
)
def test_last_words(text, bad):
    scores = catalog.build("caption_metric", "bad-endings", {})([text.split()], REFERENCES)
    assert scores.total == {"bad_endings": bad}


def test_captions_of_the_maximum_length_are_cut():
    captions = ["A dog runs in the snow.", "A dog runs."]
    references = [["a dog in the snow"]] * 2
    known = score_captions(captions, references, names=("bad-endings",), max_length=6)
    assert known.scores == {"bad_endings": 0.5}
    assert known.signature.endswith("endings:cut=6")
    unknown = score_captions(captions, references, names=("bad-endings",))
    assert unknown.scores == {"bad_endings": 0}
    assert "endings" not in unknown.signature
