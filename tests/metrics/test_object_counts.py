"""The numbers of objects that captions state."""

from __future__ import annotations

import pytest

from xmodal_cli.metrics.object_counts import count_objects


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("a man and two dogs", {"person": 1, "dog": 2}),
        ("two small brown dogs", {"dog": 2}),
        ("a man and a woman", {"person": 2}),
        ("a man throws a ball and the man runs", {"person": 1, "ball": 1}),
        ("a couple of dogs", {"dog": 2}),
        ("a group of dogs", {}),
        ("a dog and other dogs", {}),
        ("three men playing baseball", {"person": 3, "ball": 1}),
        ("two football players", {"person": 2}),
        ("three sheep and some fish", {"sheep": 3}),
        ("the two men", {"person": 2}),
        ("", {}),
    ],
)
def test_counts_of_a_caption(text, counts):
    assert count_objects(text.split()) == counts
