"""95% confidence intervals by the bootstrap over images.

Queries are resampled with replacement. An image and its captions are resampled together, because ranks of captions of
one image are correlated; both directions, and all models of one call, use the same resamples. The gallery is not
resampled, so ranks do not change. Intervals are Efron's percentile intervals; folds are resampled separately and
averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xmodal_cli.evaluation.scoring import DIRECTIONS, RECALLS, ConfidenceIntervals, Fold, ranks_of
from xmodal_cli.metrics.retrieval.recall import K
from xmodal_cli.metrics.retrieval_scores import RetrievalScore, retrieval_scores

PERCENTILES = (2.5, 97.5)

PerQuery = Mapping[str, Mapping[str, np.ndarray]]  # direction -> metric -> (queries,) values whose mean is the metric


def confidence_intervals(
    folds: list[Fold],
    num_resamples: int,
    seed: int,
    per_query: Sequence[PerQuery] | None = None,
    top_k: Sequence[int] = K,
) -> ConfidenceIntervals:
    """The intervals of every metric, by direction, and of rsum, from ``num_resamples`` resamples.

    ``per_query`` has, per fold, additional metrics that are means over queries; queries with NaN are left out.
    """
    random = np.random.default_rng(seed)
    scores = retrieval_scores(tuple(dict.fromkeys((*top_k, *K))))  # rsum needs those of ``K``
    per_fold = [
        _resample(fold, num_resamples, random, values, scores)
        for fold, values in zip(folds, per_query or [{} for _ in folds], strict=True)
    ]
    means = {
        side: {name: np.mean([values[side][name] for values in per_fold], axis=0) for name in per_fold[0][side]}
        for side in DIRECTIONS
    }
    rsum = np.sum([means[side][name] for side in DIRECTIONS for name in RECALLS], axis=0)
    left_out = {f"R@{k}" for k in K} - {f"R@{k}" for k in top_k}
    sides = {
        side: {name: _interval(values) for name, values in means[side].items() if name not in left_out}
        for side in DIRECTIONS
    }
    return ConfidenceIntervals(**sides, rsum=_interval(rsum))


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, PERCENTILES)
    return round(float(low), 6), round(float(high), 6)


def _resample(
    fold: Fold,
    num_resamples: int,
    random: np.random.Generator,
    per_query: PerQuery,
    scores: Sequence[RetrievalScore],
) -> dict[str, dict[str, np.ndarray]]:
    """The metrics of all resamples: direction -> metric -> (resamples,)."""
    images, image_of_caption = np.unique(fold.vectors.image_of_caption, return_inverse=True)
    counts = random.multinomial(len(images), np.full(len(images), 1 / len(images)), num_resamples)
    clusters = {"image_to_text": np.arange(len(images)), "text_to_image": image_of_caption}
    metrics = {}
    for side in DIRECTIONS:
        ranks, cluster = ranks_of(fold.ranks, side), clusters[side]
        metrics[side] = {score.name: _score_resamples(score, counts, cluster, ranks) for score in scores}
        metrics[side] |= {name: _means(counts, cluster, values) for name, values in per_query.get(side, {}).items()}
    return metrics


def _score_resamples(score: RetrievalScore, counts: np.ndarray, cluster: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """(resamples,) scores, as means over queries if the score has ``per_query``, else one by one."""
    if score.per_query is not None:
        return _means(counts, cluster, score.per_query(ranks))
    return np.array([score.metric(np.repeat(ranks, count[cluster])) for count in counts], np.float64)


def _means(counts: np.ndarray, cluster: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(resamples, clusters) counts, (queries,) clusters and values -> (resamples,) means of the finite values."""
    is_finite = np.isfinite(values)
    sums = np.bincount(cluster[is_finite], values[is_finite], counts.shape[1])
    sizes = np.bincount(cluster[is_finite], minlength=counts.shape[1])
    return np.asarray((counts @ sums) / np.maximum(counts @ sizes, 1))
