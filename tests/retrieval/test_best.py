"""The best answers against sorting all scores in float64, and the ranks that they must agree with."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.retrieval import best as module
from xmodal_cli.retrieval.best import Vectors, best_images, best_texts
from xmodal_cli.retrieval.ranks import compute_ranks

SIMILARITIES = ("cosine", "order")


def score_all(images, texts, similarity):
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    if similarity == "cosine":
        return images @ texts.T
    return -np.square(np.maximum(texts[None] - images[:, None], 0)).sum(-1)


def made(kind, seed, num_images=20, num_texts=70, dim=6):
    rng = np.random.default_rng(seed)
    draw = {
        "real": lambda n: rng.normal(size=(n, dim)),
        "many ties": lambda n: rng.integers(-1, 2, (n, dim)),
        "all alike": lambda n: np.ones((n, dim)),
    }[kind]
    images, texts = (draw(n).astype(np.float32) for n in (num_images, num_texts))
    return images, texts, rng.integers(0, num_images - 3, num_texts)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", ["real", "many ties", "all alike"])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_the_order_is_by_score_and_then_what_is_worth_least(similarity, kind, k):
    images, texts, _ = made(kind, k)
    worth = np.random.default_rng(9).permutation(len(images) * len(texts)).reshape(len(images), -1)
    scores = score_all(images, texts, similarity).round(9)
    vectors = Vectors(images, texts, similarity)
    found = best_texts(vectors, k, lambda image, text: worth[image, text])
    for i in range(len(images)):
        order = sorted(range(len(texts)), key=lambda t: (-scores[i, t], worth[i, t]))
        assert found[i].tolist() == order[:k]
    found = best_images(vectors, k, lambda image, text: worth[image, text])
    for t in range(len(texts)):
        order = sorted(range(len(images)), key=lambda i: (-scores[i, t], worth[i, t]))
        assert found[t].tolist() == order[:k]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", ["real", "many ties", "all alike"])
def test_the_right_answer_stands_where_its_rank_says(similarity, kind):
    images, texts, owner = made(kind, 4)
    ranks = compute_ranks(images, texts, owner, similarity)
    vectors = Vectors(images, texts, similarity)
    by_text = best_images(vectors, len(images), lambda image, text: owner[text] == image)
    places = [by_text[t].tolist().index(owner[t]) + 1 for t in range(len(texts))]
    assert places == ranks.text_to_image.tolist()
    by_image = best_texts(vectors, len(texts), lambda image, text: owner[text] == image)
    places = [int((owner[by_image[i]] == i).argmax()) + 1 for i in np.unique(owner)]
    assert places == ranks.image_to_text.tolist()


@pytest.mark.parametrize("block", [1, 50, 333])
def test_blocks_change_nothing(block, monkeypatch):
    images, texts, owner = made("many ties", 5)
    right = lambda image, text: owner[text] == image  # noqa: E731
    vectors = Vectors(images, texts, "cosine")
    whole = best_texts(vectors, 7, right), best_images(vectors, 7, right)
    monkeypatch.setattr(module, "BLOCK", block)
    ranks = compute_ranks(images, texts, owner, "cosine")
    by_image, by_text = best_texts(vectors, 7, right), best_images(vectors, 7, right)
    scores = score_all(images, texts, "cosine")
    np.testing.assert_allclose(np.take_along_axis(scores, by_image, 1), np.take_along_axis(scores, whole[0], 1))
    np.testing.assert_allclose(np.take_along_axis(scores.T, by_text, 1), np.take_along_axis(scores.T, whole[1], 1))
    first = (by_text == owner[:, None]).argmax(1) + 1
    seen = (by_text == owner[:, None]).any(1)
    assert (first[seen] == ranks.text_to_image[seen]).all()
    assert (ranks.text_to_image[~seen] > 7).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_differences_that_float32_cannot_see_still_decide(similarity):
    rng = np.random.default_rng(5)
    centre = np.abs(rng.normal(size=48))
    images, texts = (centre + 1e-5 * rng.normal(size=(n, 48)) for n in (24, 50))
    images, texts = images.astype(np.float32), texts.astype(np.float32)
    scores = score_all(images, texts, similarity)
    found = best_images(Vectors(images, texts, similarity), 5, lambda image, text: image)
    np.testing.assert_array_equal(found, np.argsort(-scores.T, axis=1)[:, :5])
