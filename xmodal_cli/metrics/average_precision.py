"""Metrics of multi-label classification: average precision per tag, precision and recall at k."""

from __future__ import annotations

import numpy as np


def average_precision(scores: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """(images, tags) scores, (images, tags) bool -> (tags,) float64; NaN for a tag without positives.

    The sum of precision times the gain of recall at each distinct score, as in scikit-learn: images with equal scores
    enter at once, so their order does not matter.
    """
    num_images = len(scores)
    values = np.full(scores.shape[1], np.nan)
    for tag in np.flatnonzero(positives.any(0)):
        order = np.argsort(-scores[:, tag], kind="stable")
        ranked = scores[order, tag]
        hits = np.cumsum(positives[order, tag])
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), num_images - 1)  # last image of each score
        gains = np.diff(hits[ends], prepend=0)
        values[tag] = (gains * hits[ends] / (ends + 1)).sum() / hits[-1]
    return values


def precision_recall_at(scores: np.ndarray, positives: np.ndarray, k: int) -> tuple[float, float]:
    """Precision and recall of the ``k`` best tags of each image, averaged over the images that have a tag.

    Equal scores are ranked in the way that is worst for the model: images without the tag first. (0, 0) without images.
    """
    labeled = positives.any(1)
    scores, positives = scores[labeled], positives[labeled]
    k = min(k, scores.shape[1])
    if not len(scores):
        return 0.0, 0.0
    order = np.lexsort((positives, -scores), axis=1)[:, :k]
    hits = np.take_along_axis(positives, order, axis=1).sum(1)
    return float((hits / k).mean()), float((hits / positives.sum(1)).mean())
