"""Longest common subsequences and ROUGE-L against slow reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.slow_rouge import slow_lcs, slow_rouge
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_cli.metrics.rouge_kernel import WordRows, lcs_length, rouge_block, rouge_pairs

SENTENCE = st.lists(st.integers(0, 5), max_size=80)


@settings(max_examples=150, deadline=None)
@given(SENTENCE, SENTENCE)
def test_the_length_equals_that_of_the_dynamic_program(a, b):
    assert lcs_length(a, b) == lcs_length(b, a) == slow_lcs(a, b)


@pytest.mark.parametrize("length", [63, 64, 65, 130])
def test_sentences_around_the_size_of_a_machine_word(length):
    rng = np.random.default_rng(length)
    a, b = rng.integers(0, 4, length), rng.integers(0, 4, 64)
    assert lcs_length(a, b) == slow_lcs(a, b)
    assert lcs_length(a, a) == length
    assert lcs_length(a, a + 10) == 0


def gallery(seed=0, num_captions=60, num_images=12):
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 1, 3, 7, 12, 70], num_captions, p=[0.05, 0.1, 0.3, 0.3, 0.2, 0.05])
    captions = [rng.integers(0, 9, n).tolist() for n in lengths]
    image_of_caption = rng.integers(0, num_images - 2, num_captions)  # unsorted; two images have no captions
    return captions, image_of_caption, num_images


def test_rouge_equals_the_formula():
    captions, image_of_caption, num_images = gallery()
    rows = WordRows.of(captions, image_of_caption, num_images)
    of_image = [[c for c, i in zip(captions, image_of_caption, strict=True) if i == n] for n in range(num_images)]
    expected = np.array([[slow_rouge(c, references) for references in of_image] for c in captions])
    np.testing.assert_allclose(rouge_block(rows, 0, len(captions)), expected, rtol=1e-12)
    assert (expected[:, -1] == 0).all()
    assert 0 < expected.mean() < 1
    for c, caption in enumerate(captions):
        assert expected[c, image_of_caption[c]] == pytest.approx(1 if caption else 0)  # it is one of the references


def test_blocks_and_pairs_equal_parts_of_the_matrix():
    captions, image_of_caption, num_images = gallery(1)
    rows = WordRows.of(captions, image_of_caption, num_images)
    scores = rouge_block(rows, 0, len(captions))
    blocks = [rouge_block(rows, first, min(first + 17, len(captions))) for first in range(0, len(captions), 17)]
    np.testing.assert_array_equal(np.concatenate(blocks), scores)
    rng = np.random.default_rng(2)
    c, i = rng.integers(0, len(captions), 300), rng.integers(0, num_images, 300)
    np.testing.assert_array_equal(rouge_pairs(rows, c, i), scores[c, i])
    assert len(rouge_pairs(rows, c[:0], i[:0])) == 0


def test_a_worked_example():
    """``police killed the gunman`` against ``police kill the gunman`` and ``the gunman police killed``, by hand."""
    police, killed, the, gunman, kill = range(5)
    candidate = [police, killed, the, gunman]
    references = [[police, kill, the, gunman], [the, gunman, police, killed]]
    rows = WordRows.of([candidate, *references], np.array([1, 0, 0]), 2)
    precision = recall = 3 / 4  # with the first reference; the second has two words in the same order
    f = 2.44 * precision * recall / (recall + 1.44 * precision)
    assert rouge_block(rows, 0, 1)[0].tolist() == pytest.approx([f, 1.0])
