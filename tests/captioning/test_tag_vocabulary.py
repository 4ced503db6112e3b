"""The words that are tags: content words, by the number of images, and the targets of an image."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.captioning.tag_vocabulary import choose_tags, content_words, tag_targets
from xmodal_cli.errors import BadData

CAPTIONS = [
    ("A dog chases two balls .", "The dog is very happy"),
    ("A dog sleeps", "a brown dog sleeping on 3 pillows", "an animal"),
    ("Balls in the air",),
    (),
]


def test_content_words_are_lower_case_without_function_words_numbers_and_punctuation():
    assert content_words("A Dog's ball IS behind 12 of those houses, a b!") == ["dog's", "ball", "houses"]


def test_the_most_frequent_words_by_images_are_chosen():
    assert choose_tags(CAPTIONS, 2, 1) == ["balls", "dog"]  # both with two images: the alphabet decides
    assert choose_tags(CAPTIONS, 100, 2) == ["balls", "dog"]
    assert choose_tags(CAPTIONS, 100, 1)[2:] == [
        *("air", "animal", "brown", "chases", "happy", "pillows", "sleeping", "sleeps")
    ]


def test_too_few_images_is_an_error_with_the_setting():
    with pytest.raises(BadData, match="3 training images") as error:
        choose_tags(CAPTIONS, 10, 3)
    assert "tagging.min_images=1" in error.value.hint


def test_targets_are_the_fraction_of_captions_with_the_tag():
    targets = tag_targets(CAPTIONS, ["dog", "balls", "zebra"])
    expected = [[1, 0.5, 0], [2 / 3, 0, 0], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    assert targets.dtype == np.float32
