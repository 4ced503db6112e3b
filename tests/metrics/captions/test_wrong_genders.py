"""Genders that no reference names."""

from __future__ import annotations

import pytest

from xmodal_cli import catalog


@pytest.mark.parametrize(
    ("caption", "references", "wrong"),
    [
        ("a man rides", ["a woman rides", "a person on a bike"], 1),
        ("a man rides", ["a woman rides", "a boy on a bike"], 0),
        ("a man rides", ["a person on a bike"], 0),
        ("a man and a woman", ["two men in the street"], 1),
        ("two girls", ["the ladies are here"], 0),
        ("a dog with a ball in his mouth", ["a girl and a dog"], 0),
        ("", ["a girl"], 0),
    ],
)
def test_genders(caption, references, wrong):
    words = [[text.split() for text in references]]
    scores = catalog.build("caption_metric", "wrong-genders", {})([caption.split()], words)
    assert scores.total == {"wrong_genders": wrong}
