"""Numbers of objects that no reference agrees with."""

from __future__ import annotations

import pytest

from xmodal_cli import catalog


@pytest.mark.parametrize(
    ("caption", "references", "wrong"),
    [
        ("two dogs run", ["three dogs run in the snow"], 1),
        ("two dogs run", ["three dogs run in the snow", "2 dogs are here"], 0),
        ("two people sit", ["a man and a woman sit"], 0),
        ("a man in the snow", ["the two men are in the snow"], 1),
        ("two dogs run", ["the dogs run", "a group of dogs"], 0),  # no reference counts them
        ("dogs run", ["the two dogs"], 0),  # the caption does not count them
        ("two dogs run", ["a man on the street"], 0),  # hallucination, not a count
        ("", ["a dog"], 0),
    ],
)
def test_counts(caption, references, wrong):
    words = [[text.split() for text in references]]
    scores = catalog.build("caption_metric", "wrong-counts", {})([caption.split()], words)
    assert scores.total == {"wrong_counts": wrong}
    assert scores.per_candidate["wrong_counts"].tolist() == [wrong]
