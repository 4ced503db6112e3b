"""Bootstrap intervals against drawing picture by picture, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli import catalog
from xmodal_cli.evaluation.bootstrap import confidence
from xmodal_cli.evaluation.scoring import Embeddings, Fold, compute_metrics, rank_folds
from xmodal_cli.retrieval.ranks import Ranks

FIGURES = {
    **{f"R@{k}": catalog.build("retrieval_metric", "recall", {"k": k}) for k in (1, 5, 10)},
    "median_rank": catalog.build("retrieval_metric", "median-rank", {}),
    "mean_rank": catalog.build("retrieval_metric", "mean-rank", {}),
}


def fold_of(of_images, of_captions, owner) -> Fold:
    """A fold of which only ranks and owners are known."""
    num_images = int(owner.max()) + 2  # the last one has no caption
    given = Embeddings(np.zeros((num_images, 1)), np.zeros((len(owner), 1)), owner, "cosine")
    ranks = Ranks(np.asarray(of_images), np.asarray(of_captions))
    return Fold(given, np.arange(num_images), np.arange(len(owner)), ranks)


def synthetic(seed, num_images=30) -> Fold:
    """Captions of one picture are alike in how hard they are; any number of captions, in no order."""
    rng = np.random.default_rng(seed)
    owner = rng.permutation(np.repeat(np.arange(num_images), rng.integers(1, 6, num_images)))
    hard = np.exp(rng.normal(1, 1.2, num_images))
    of_captions = 1 + np.floor(hard[owner] * rng.exponential(1, len(owner)))
    return fold_of(1 + np.floor(hard).astype(int), of_captions.astype(int), owner)


def slow_draws(fold, num_draws, rng):
    """(draws,) per direction and figure: every drawn picture brings its rank and those of its captions."""
    pictures = np.unique(fold.vectors.image_of_caption)
    times = rng.multinomial(len(pictures), [1 / len(pictures)] * len(pictures), num_draws)
    drawn = {side: {name: [] for name in FIGURES} for side in ("image_to_text", "text_to_image")}
    for row in times:
        of_images, of_captions = [], []
        for number, picture in enumerate(pictures):
            own = fold.ranks.text_to_image[fold.vectors.image_of_caption == picture].tolist()
            of_images += [fold.ranks.image_to_text[number]] * row[number]
            of_captions += own * row[number]
        for name, figure in FIGURES.items():
            drawn["image_to_text"][name].append(figure(np.array(of_images)))
            drawn["text_to_image"][name].append(figure(np.array(of_captions)))
    return drawn


def ends(values):
    return pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=1e-6)


@pytest.mark.parametrize("num_folds", [1, 3])
def test_intervals_are_those_of_the_slow_loop(num_folds, monkeypatch):
    folds = [synthetic(seed) for seed in range(num_folds)]
    found = confidence(folds, 40, seed=7)
    rng = np.random.default_rng(7)
    parts = [slow_draws(fold, 40, rng) for fold in folds]
    rsum = 0
    for side in ("image_to_text", "text_to_image"):
        assert set(found[side]) == set(FIGURES)
        for name in FIGURES:
            means = np.mean([part[side][name] for part in parts], axis=0)
            assert found[side][name] == ends(means)
            rsum = rsum + means if name.startswith("R@") else rsum
    assert found["rsum"] == ends(rsum)


def test_further_figures_are_drawn_with_the_same_pictures():
    fold = synthetic(3)
    hits = {
        "image_to_text": {"copy": 100.0 * (fold.ranks.image_to_text <= 5)},
        "text_to_image": {"copy": 100.0 * (fold.ranks.text_to_image <= 5)},
    }
    found = confidence([fold], 50, 0, [hits])
    for side in hits:
        assert found[side]["copy"] == found[side]["R@5"]
    half = np.where(np.arange(len(fold.ranks.text_to_image)) % 2, 1.0, np.nan)
    found = confidence([fold], 50, 0, [{"text_to_image": {"ones": half}}])
    assert found["text_to_image"]["ones"] == [1, 1]  # what does not count is not in the mean


def test_the_seed_decides_and_the_figure_lies_within(vectors):
    owner = np.repeat(np.arange(50), 3)
    given = vectors(1, owner, 50, 8)
    folds = rank_folds(given)
    first, again, other = (confidence(folds, 200, seed) for seed in (1, 1, 2))
    assert first == again != other
    row = compute_metrics(given, folds)
    for side in ("image_to_text", "text_to_image"):
        for name, (low, high) in first[side].items():
            assert low <= row[side][name] <= high
    assert first["rsum"][0] < row["rsum"] < first["rsum"][1]


def test_a_perfect_model_leaves_nothing_open():
    owner = np.repeat(np.arange(9), 2)
    found = confidence([fold_of(np.ones(9, int), np.ones(18, int), owner)], 100, 0)
    assert found["rsum"] == [600, 600]
    assert found["text_to_image"]["median_rank"] == [1, 1]


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Of 200 experiments with 60 pictures each; drawing captions alone would hold it far less often."""
    everything = synthetic(0, 40_000)
    truth = FIGURES["R@5"](everything.ranks.text_to_image)
    held, held_by_captions = 0, 0
    for seed in range(1, 201):
        fold = synthetic(seed, 60)
        low, high = confidence([fold], 200, seed)["text_to_image"]["R@5"]
        held += low <= truth <= high
        alone = fold_of(fold.ranks.text_to_image, fold.ranks.text_to_image, np.arange(len(fold.ranks.text_to_image)))
        low, high = confidence([alone], 200, seed)["text_to_image"]["R@5"]
        held_by_captions += low <= truth <= high
    assert 0.90 <= held / 200 <= 0.985
    assert held_by_captions / 200 < 0.85 < held / 200
