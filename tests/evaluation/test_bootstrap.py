"""Bootstrap intervals against a loop over images, and their coverage of the true value."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli import catalog
from xmodal_cli.evaluation.bootstrap import confidence_intervals
from xmodal_cli.evaluation.scoring import Embeddings, Fold, compute_metrics, rank_folds
from xmodal_cli.retrieval.ranks import Ranks

METRICS = {
    **{f"R@{k}": catalog.build("retrieval_metric", "recall", {"k": k}) for k in (1, 5, 10)},
    "median_rank": catalog.build("retrieval_metric", "median-rank", {}),
    "mean_rank": catalog.build("retrieval_metric", "mean-rank", {}),
}


def fold_of(of_images, of_captions, image_of_caption) -> Fold:
    """A fold with ranks and images of captions, but without vectors."""
    num_images = int(image_of_caption.max()) + 2  # the last one has no caption
    embeddings = Embeddings(np.zeros((num_images, 1)), np.zeros((len(image_of_caption), 1)), image_of_caption, "cosine")
    ranks = Ranks(np.asarray(of_images), np.asarray(of_captions))
    return Fold(embeddings, np.arange(num_images), np.arange(len(image_of_caption)), ranks)


def synthetic(seed, num_images=30) -> Fold:
    """Ranks of captions of one image are correlated; the number of captions varies, and they are shuffled."""
    rng = np.random.default_rng(seed)
    image_of_caption = rng.permutation(np.repeat(np.arange(num_images), rng.integers(1, 6, num_images)))
    difficulty = np.exp(rng.normal(1, 1.2, num_images))
    of_captions = 1 + np.floor(difficulty[image_of_caption] * rng.exponential(1, len(image_of_caption)))
    return fold_of(1 + np.floor(difficulty).astype(int), of_captions.astype(int), image_of_caption)


def slow_resamples(fold, num_resamples, rng):
    """(resamples,) per direction and metric: an image is resampled with its rank and those of its captions."""
    images = np.unique(fold.vectors.image_of_caption)
    times = rng.multinomial(len(images), [1 / len(images)] * len(images), num_resamples)
    metrics = {side: {name: [] for name in METRICS} for side in ("image_to_text", "text_to_image")}
    for row in times:
        of_images, of_captions = [], []
        for index, image in enumerate(images):
            caption_ranks = fold.ranks.text_to_image[fold.vectors.image_of_caption == image].tolist()
            of_images += [fold.ranks.image_to_text[index]] * row[index]
            of_captions += caption_ranks * row[index]
        for name, metric in METRICS.items():
            metrics["image_to_text"][name].append(metric(np.array(of_images)))
            metrics["text_to_image"][name].append(metric(np.array(of_captions)))
    return metrics


def ends(values):
    return pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=1e-6)


@pytest.mark.parametrize("num_folds", [1, 3])
def test_intervals_equal_those_of_the_slow_loop(num_folds, monkeypatch):
    folds = [synthetic(seed) for seed in range(num_folds)]
    intervals = confidence_intervals(folds, 40, seed=7)
    rng = np.random.default_rng(7)
    parts = [slow_resamples(fold, 40, rng) for fold in folds]
    rsum = 0
    for side in ("image_to_text", "text_to_image"):
        assert set(getattr(intervals, side)) == set(METRICS)
        for name in METRICS:
            means = np.mean([part[side][name] for part in parts], axis=0)
            assert getattr(intervals, side)[name] == ends(means)
            rsum = rsum + means if name.startswith("R@") else rsum
    assert intervals.rsum == ends(rsum)


def test_additional_metrics_use_the_same_resamples():
    fold = synthetic(3)
    hits = {
        "image_to_text": {"copy": 100.0 * (fold.ranks.image_to_text <= 5)},
        "text_to_image": {"copy": 100.0 * (fold.ranks.text_to_image <= 5)},
    }
    intervals = confidence_intervals([fold], 50, 0, [hits])
    for side in hits:
        assert getattr(intervals, side)["copy"] == getattr(intervals, side)["R@5"]
    half = np.where(np.arange(len(fold.ranks.text_to_image)) % 2, 1.0, np.nan)
    intervals = confidence_intervals([fold], 50, 0, [{"text_to_image": {"ones": half}}])
    assert intervals.text_to_image["ones"] == (1, 1)  # NaN is not in the mean


def test_intervals_depend_on_the_seed_and_contain_the_metric(vectors):
    image_of_caption = np.repeat(np.arange(50), 3)
    embeddings = vectors(1, image_of_caption, 50, 8)
    folds = rank_folds(embeddings)
    first, again, other = (confidence_intervals(folds, 200, seed) for seed in (1, 1, 2))
    assert first == again != other
    metrics = compute_metrics(embeddings, folds)
    for side in ("image_to_text", "text_to_image"):
        for name, (low, high) in getattr(first, side).items():
            assert low <= metrics.sides[side][name] <= high
    assert first.rsum[0] < metrics.rsum < first.rsum[1]


def test_intervals_of_a_perfect_model_have_zero_width():
    image_of_caption = np.repeat(np.arange(9), 2)
    intervals = confidence_intervals([fold_of(np.ones(9, int), np.ones(18, int), image_of_caption)], 100, 0)
    assert intervals.rsum == (600, 600)
    assert intervals.text_to_image["median_rank"] == (1, 1)


def test_the_coverage_of_the_intervals_is_95_percent():
    """In 200 experiments with 60 images each; resampling captions independently has a much lower coverage."""
    population = synthetic(0, 40_000)
    truth = METRICS["R@5"](population.ranks.text_to_image)
    covered, covered_by_captions = 0, 0
    for seed in range(1, 201):
        fold = synthetic(seed, 60)
        low, high = confidence_intervals([fold], 200, seed).text_to_image["R@5"]
        covered += low <= truth <= high
        independent = fold_of(
            fold.ranks.text_to_image, fold.ranks.text_to_image, np.arange(len(fold.ranks.text_to_image))
        )
        low, high = confidence_intervals([independent], 200, seed).text_to_image["R@5"]
        covered_by_captions += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.985
    assert covered_by_captions / 200 < 0.85 < covered / 200
