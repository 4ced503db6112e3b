"""95% confidence intervals by the bootstrap: pictures are drawn again and again, each with all of its captions.

What is drawn are the queries, with replacement: a picture and its captions come together, because captions of one
picture fail together, and both directions (and all models of one call) see the same draws. The gallery stays whole, so
ranks are those already computed. Efron's percentile interval; folds are drawn one by one and averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xmodal_cli.evaluation.scoring import DIRECTIONS, RECALLS, Fold, side_of
from xmodal_cli.metrics.retrieval_scores import RetrievalScore, retrieval_scores

ENDS = (2.5, 97.5)  # percentiles

Extra = Mapping[str, Mapping[str, np.ndarray]]  # direction -> figure -> (queries,): a value per query, to be averaged


def confidence(folds: list[Fold], num_draws: int, seed: int, extras: Sequence[Extra] | None = None) -> dict[str, Any]:
    """``[low, high]`` of every figure, by direction, and of rsum, from ``num_draws`` draws.

    ``extras`` gives, per fold, further figures that are means over queries (NaN: the query does not count).
    """
    random = np.random.default_rng(seed)
    drawn = [
        _drawn(fold, num_draws, random, extra) for fold, extra in zip(folds, extras or [{} for _ in folds], strict=True)
    ]
    means = {
        side: {name: np.mean([part[side][name] for part in drawn], axis=0) for name in drawn[0][side]}
        for side in DIRECTIONS
    }
    rsum = np.sum([means[side][name] for side in DIRECTIONS for name in RECALLS], axis=0)
    sides = {side: {name: _interval(values) for name, values in means[side].items()} for side in DIRECTIONS}
    return {**sides, "rsum": _interval(rsum)}


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.percentile(values, ENDS)
    return [round(float(low), 6), round(float(high), 6)]


def _drawn(fold: Fold, num_draws: int, random: np.random.Generator, extra: Extra) -> dict[str, dict[str, np.ndarray]]:
    """Every figure of every draw: direction -> figure -> (draws,)."""
    images, image_of_caption = np.unique(fold.vectors.image_of_caption, return_inverse=True)
    times = random.multinomial(len(images), np.full(len(images), 1 / len(images)), num_draws)  # (draws, images)
    clusters = {"image_to_text": np.arange(len(images)), "text_to_image": image_of_caption}
    drawn = {}
    for side in DIRECTIONS:
        ranks, cluster = side_of(fold.ranks, side), clusters[side]
        drawn[side] = {score.name: _score_draws(score, times, cluster, ranks) for score in retrieval_scores()}
        drawn[side] |= {name: _means(times, cluster, of_query) for name, of_query in extra.get(side, {}).items()}
    return drawn


def _score_draws(score: RetrievalScore, times: np.ndarray, cluster: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """(draws,) the score of each draw: from the values per query, or of each draw's queries by themselves."""
    if score.per_query is not None:
        return _means(times, cluster, score.per_query(ranks))
    return np.array([score.metric(np.repeat(ranks, draw[cluster])) for draw in times], np.float64)


def _means(times: np.ndarray, cluster: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(draws, clusters) how often each was drawn, (queries,) cluster and value -> (draws,) mean over drawn queries."""
    counts = np.isfinite(values)
    sums = np.bincount(cluster[counts], values[counts], times.shape[1])
    sizes = np.bincount(cluster[counts], minlength=times.shape[1])
    return np.asarray((times @ sums) / np.maximum(times @ sizes, 1))
