"""Singular forms."""

from __future__ import annotations

import pytest

from xmodal_cli.metrics.english_words import singular


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dogs", "dog"),
        ("puppies", "puppy"),
        ("beaches", "beach"),
        ("dresses", "dress"),
        ("boxes", "box"),
        ("horses", "horse"),
        ("men", "man"),
        ("leaves", "leaf"),
        ("grass", "grass"),
        ("bus", "bus"),
        ("buses", "bus"),
        ("glasses", "glasses"),
        ("tennis", "tennis"),
        ("his", "his"),
        ("", ""),
    ],
)
def test_singular_forms(word, expected):
    assert singular(word) == expected
