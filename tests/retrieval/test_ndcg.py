"""NDCG@25 with ROUGE-L against a loop over the queries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.slow_rouge import slow_rouge

from xmodal_cli.evaluation import rouge_ndcg
from xmodal_cli.evaluation.rouge_ndcg import fold_ndcg
from xmodal_cli.evaluation.scoring import Embeddings, rank_folds
from xmodal_cli.retrieval.ndcg import dcg, ideal_dcg, ideal_dcg_of_columns, ndcg

WORDS = ("a", "dog", "cat", "runs", "sits", "on", "the", "red", "grass", "snow")


def slow_dcg(gains, p=25):
    return sum((2**rel - 1) / math.log2(i + 2) for i, rel in enumerate(gains[:p]))


def slow_ndcg(scores, relevances, p=25):
    """Ties are sorted by ascending relevance."""
    ranking = sorted(range(len(scores)), key=lambda n: (-scores[n], relevances[n]))
    ideal = slow_dcg(sorted(relevances, reverse=True), p)
    return slow_dcg([relevances[n] for n in ranking], p) / ideal if ideal else math.nan


def captions_for(owner, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in owner]


def relevances_of(captions, owner, num_images):
    tokens = [[word for word in c.lower().split() if word.isalpha()] for c in captions]
    of_image = [[c for c, o in zip(tokens, owner, strict=True) if o == i] for i in range(num_images)]
    return np.array([[slow_rouge(c, references) for references in of_image] for c in tokens])


def check(embeddings: Embeddings, captions):
    num_images, owner = len(embeddings.images), embeddings.image_of_caption
    rel = relevances_of(captions, owner, num_images)
    scores = (embeddings.images.astype(np.float64) @ embeddings.texts.astype(np.float64).T).round(9)
    (fold,) = rank_folds(embeddings)
    result = fold_ndcg(fold, captions)
    expected = [slow_ndcg(scores[:, t], rel[t]) for t in range(len(captions))]
    np.testing.assert_allclose(result["text_to_image"], expected, rtol=1e-12)
    expected = [slow_ndcg(scores[i], rel[:, i]) for i in np.unique(owner)]
    np.testing.assert_allclose(result["image_to_text"], expected, rtol=1e-12)
    return result


@pytest.mark.parametrize("num_images", [8, 40])  # fewer and more than 25
def test_ndcg_equals_that_of_the_loop(vectors, num_images):
    owner = np.random.default_rng(1).integers(0, num_images - 1, 3 * num_images)
    result = check(vectors(2, owner, num_images, 8), captions_for(owner))
    assert 0 < np.mean(result["text_to_image"]) < 1


def test_equal_scores_give_the_worst_order(vectors):
    owner = np.repeat(np.arange(40), 3)
    captions = captions_for(owner)
    constant = Embeddings(np.ones((40, 4), np.float32), np.ones((120, 4), np.float32), owner, "cosine")
    worst = check(constant, captions)
    real = check(vectors(0, owner, 40, 16), captions)
    assert np.mean(worst["text_to_image"]) < np.mean(real["text_to_image"])


def test_the_block_size_does_not_change_results(vectors, monkeypatch):
    owner = np.random.default_rng(1).integers(0, 40, 90)
    embeddings, captions = vectors(3, owner, 40, 8), captions_for(owner, 7)
    (fold,) = rank_folds(embeddings)
    one_block = fold_ndcg(fold, captions)
    rouge_ndcg._relevance.cache_clear()
    monkeypatch.setattr(rouge_ndcg, "BLOCK_CELLS", 100)
    blocks = fold_ndcg(fold, captions)
    for side in one_block:
        np.testing.assert_allclose(blocks[side], one_block[side], rtol=1e-12)


def test_case_and_punctuation_are_ignored(vectors):
    owner = np.repeat(np.arange(6), 2)
    (fold,) = rank_folds(vectors(0, owner, 6, 4))
    captions = captions_for(owner)
    uppercase = [f"{caption.upper()} !" for caption in captions]
    for side, values in fold_ndcg(fold, captions).items():
        np.testing.assert_array_equal(values, fold_ndcg(fold, uppercase)[side])


def test_a_caption_without_words_is_nan(vectors):
    owner = np.repeat(np.arange(6), 2)
    captions = captions_for(owner)
    captions[3] = "?!"
    result = check(vectors(0, owner, 6, 4), captions)
    assert np.isnan(result["text_to_image"]).nonzero()[0].tolist() == [3]


def test_values_computed_by_hand():
    # gains 2^rel - 1 of 1, 0, 3 over log2 of 2, 3, 4
    assert dcg(np.array([[1.0, 0.0, 2.0]])).tolist() == [1 + 3 / 2]
    assert ideal_dcg(np.array([[0.0, 2.0, 1.0]]), 2).tolist() == pytest.approx([3 + 1 / math.log2(3)])
    columns = np.array([[0.0, 5.0], [2.0, 0.0], [1.0, 0.0]])
    expected = ideal_dcg(columns.T, 2)
    np.testing.assert_allclose(ideal_dcg_of_columns([columns[:1], columns[1:]], 2), expected)
    assert ndcg(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist() == [0.5, pytest.approx(math.nan, nan_ok=True)]
