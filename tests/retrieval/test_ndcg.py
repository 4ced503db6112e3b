"""NDCG@25 with ROUGE-L against sorting and summing query by query."""

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
    """Among equal scores the least relevant comes first."""
    ranking = sorted(range(len(scores)), key=lambda n: (-scores[n], relevances[n]))
    ideal = slow_dcg(sorted(relevances, reverse=True), p)
    return slow_dcg([relevances[n] for n in ranking], p) / ideal if ideal else math.nan


def captions_for(owner, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in owner]


def relevances_of(captions, owner, num_images):
    cut = [[word for word in c.lower().split() if word.isalpha()] for c in captions]
    of_image = [[c for c, o in zip(cut, owner, strict=True) if o == i] for i in range(num_images)]
    return np.array([[slow_rouge(c, references) for references in of_image] for c in cut])


def check(given: Embeddings, captions):
    num_images, owner = len(given.images), given.image_of_caption
    rel = relevances_of(captions, owner, num_images)
    scores = (given.images.astype(np.float64) @ given.texts.astype(np.float64).T).round(9)
    (fold,) = rank_folds(given)
    found = fold_ndcg(fold, captions)
    expected = [slow_ndcg(scores[:, t], rel[t]) for t in range(len(captions))]
    np.testing.assert_allclose(found["text_to_image"], expected, rtol=1e-12)
    expected = [slow_ndcg(scores[i], rel[:, i]) for i in np.unique(owner)]
    np.testing.assert_allclose(found["image_to_text"], expected, rtol=1e-12)
    return found


@pytest.mark.parametrize("num_images", [8, 40])  # fewer and more than 25
def test_ndcg_is_that_of_the_slow_loop(vectors, num_images):
    owner = np.random.default_rng(1).integers(0, num_images - 1, 3 * num_images)
    found = check(vectors(2, owner, num_images, 8), captions_for(owner))
    assert 0 < np.mean(found["text_to_image"]) < 1


def test_a_model_that_scores_everything_alike_gets_the_worst_order(vectors):
    owner = np.repeat(np.arange(40), 3)
    captions = captions_for(owner)
    alike = Embeddings(np.ones((40, 4), np.float32), np.ones((120, 4), np.float32), owner, "cosine")
    worst = check(alike, captions)
    real = check(vectors(0, owner, 40, 16), captions)
    assert np.mean(worst["text_to_image"]) < np.mean(real["text_to_image"])


def test_blocks_change_nothing(vectors, monkeypatch):
    owner = np.random.default_rng(1).integers(0, 40, 90)
    given, captions = vectors(3, owner, 40, 8), captions_for(owner, 7)
    (fold,) = rank_folds(given)
    whole = fold_ndcg(fold, captions)
    rouge_ndcg._relevance.cache_clear()
    monkeypatch.setattr(rouge_ndcg, "BLOCK_CELLS", 100)
    parts = fold_ndcg(fold, captions)
    for side in whole:
        np.testing.assert_allclose(parts[side], whole[side], rtol=1e-12)


def test_case_and_punctuation_do_not_count(vectors):
    owner = np.repeat(np.arange(6), 2)
    (fold,) = rank_folds(vectors(0, owner, 6, 4))
    captions = captions_for(owner)
    loud = [f"{caption.upper()} !" for caption in captions]
    for side, values in fold_ndcg(fold, captions).items():
        np.testing.assert_array_equal(values, fold_ndcg(fold, loud)[side])


def test_a_caption_without_words_does_not_count(vectors):
    owner = np.repeat(np.arange(6), 2)
    captions = captions_for(owner)
    captions[3] = "?!"
    found = check(vectors(0, owner, 6, 4), captions)
    assert np.isnan(found["text_to_image"]).nonzero()[0].tolist() == [3]


def test_the_formula_by_hand():
    # gains 2^rel - 1 of 1, 0, 3 over log2 of 2, 3, 4
    assert dcg(np.array([[1.0, 0.0, 2.0]])).tolist() == [1 + 3 / 2]
    assert ideal_dcg(np.array([[0.0, 2.0, 1.0]]), 2).tolist() == pytest.approx([3 + 1 / math.log2(3)])
    columns = np.array([[0.0, 5.0], [2.0, 0.0], [1.0, 0.0]])
    expected = ideal_dcg(columns.T, 2)
    np.testing.assert_allclose(ideal_dcg_of_columns([columns[:1], columns[1:]], 2), expected)
    assert ndcg(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist() == [0.5, pytest.approx(math.nan, nan_ok=True)]
