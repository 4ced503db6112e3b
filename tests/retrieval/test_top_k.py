"""The top k against sorting all scores in float64, and against the ranks."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.retrieval import top_k
from xmodal_cli.retrieval.ranks import compute_ranks
from xmodal_cli.retrieval.top_k import Vectors, top_images, top_texts

SIMILARITIES = ("cosine", "order")


def score_all(images, texts, similarity):
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    if similarity == "cosine":
        return images @ texts.T
    return -np.square(np.maximum(texts[None] - images[:, None], 0)).sum(-1)


def make_vectors(kind, seed, num_images=20, num_texts=70, dim=6):
    rng = np.random.default_rng(seed)
    draw = {
        "real": lambda n: rng.normal(size=(n, dim)),
        "many ties": lambda n: rng.integers(-1, 2, (n, dim)),
        "all equal": lambda n: np.ones((n, dim)),
    }[kind]
    images, texts = (draw(n).astype(np.float32) for n in (num_images, num_texts))
    return images, texts, rng.integers(0, num_images - 3, num_texts)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", ["real", "many ties", "all equal"])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_results_are_sorted_by_score_then_by_relevance(similarity, kind, k):
    images, texts, _ = make_vectors(kind, k)
    relevance = np.random.default_rng(9).permutation(len(images) * len(texts)).reshape(len(images), -1)
    scores = score_all(images, texts, similarity).round(9)
    vectors = Vectors(images, texts, similarity)
    rows = top_texts(vectors, k, lambda image, text: relevance[image, text])
    for i in range(len(images)):
        order = sorted(range(len(texts)), key=lambda t: (-scores[i, t], relevance[i, t]))
        assert rows[i].tolist() == order[:k]
    rows = top_images(vectors, k, lambda image, text: relevance[image, text])
    for t in range(len(texts)):
        order = sorted(range(len(images)), key=lambda i: (-scores[i, t], relevance[i, t]))
        assert rows[t].tolist() == order[:k]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", ["real", "many ties", "all equal"])
def test_the_position_of_the_positive_is_its_rank(similarity, kind):
    images, texts, owner = make_vectors(kind, 4)
    ranks = compute_ranks(images, texts, owner, similarity)
    vectors = Vectors(images, texts, similarity)
    by_text = top_images(vectors, len(images), lambda image, text: owner[text] == image)
    positions = [by_text[t].tolist().index(owner[t]) + 1 for t in range(len(texts))]
    assert positions == ranks.text_to_image.tolist()
    by_image = top_texts(vectors, len(texts), lambda image, text: owner[text] == image)
    positions = [int((owner[by_image[i]] == i).argmax()) + 1 for i in np.unique(owner)]
    assert positions == ranks.image_to_text.tolist()


@pytest.mark.parametrize("block", [1, 50, 333])
def test_the_block_size_does_not_change_results(block, monkeypatch):
    images, texts, owner = make_vectors("many ties", 5)
    is_positive = lambda image, text: owner[text] == image  # noqa: E731
    vectors = Vectors(images, texts, "cosine")
    one_block = top_texts(vectors, 7, is_positive), top_images(vectors, 7, is_positive)
    monkeypatch.setattr(top_k, "BLOCK", block)
    ranks = compute_ranks(images, texts, owner, "cosine")
    by_image, by_text = top_texts(vectors, 7, is_positive), top_images(vectors, 7, is_positive)
    scores = score_all(images, texts, "cosine")
    np.testing.assert_allclose(np.take_along_axis(scores, by_image, 1), np.take_along_axis(scores, one_block[0], 1))
    np.testing.assert_allclose(np.take_along_axis(scores.T, by_text, 1), np.take_along_axis(scores.T, one_block[1], 1))
    first = (by_text == owner[:, None]).argmax(1) + 1
    in_top = (by_text == owner[:, None]).any(1)
    assert (first[in_top] == ranks.text_to_image[in_top]).all()
    assert (ranks.text_to_image[~in_top] > 7).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_differences_below_float32_precision_count(similarity):
    rng = np.random.default_rng(5)
    center = np.abs(rng.normal(size=48))
    images, texts = (center + 1e-5 * rng.normal(size=(n, 48)) for n in (24, 50))
    images, texts = images.astype(np.float32), texts.astype(np.float32)
    scores = score_all(images, texts, similarity)
    rows = top_images(Vectors(images, texts, similarity), 5, lambda image, text: image)
    np.testing.assert_array_equal(rows, np.argsort(-scores.T, axis=1)[:, :5])
