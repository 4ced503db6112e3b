"""From vectors to the table that the papers print: ranks, R@K, median and mean rank, rsum, folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.ranks import Ranks, check_vectors, compute_ranks

DIRECTIONS = ("image_to_text", "text_to_image")
RECALLS = (1, 5, 10)
Metric = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Embeddings:
    """Vectors of a split: ``images`` (images, dim), ``texts`` (captions, dim), ``image_of_caption`` (captions,)."""

    images: np.ndarray
    texts: np.ndarray
    image_of_caption: np.ndarray
    similarity: str


def score_embeddings(embeddings: Embeddings, folds: int = 1) -> dict[str, Any]:
    """Counts, protocol, both directions and rsum, as ``xmodal eval --json`` prints them.

    With ``folds``, the images are cut into that many runs of equal length, and every figure is the mean over them.
    Raises ConfigError where there are fewer images than folds, BadData for unusable vectors.
    """
    check_vectors(embeddings.images, embeddings.texts, embeddings.image_of_caption, embeddings.similarity)
    num_images = len(embeddings.images)
    if not 1 <= folds <= max(1, num_images):
        raise ConfigError(f"{num_images} images cannot be cut into {folds} folds", "give a smaller --folds")
    parts = [_score(part) for part in _cut(embeddings, folds)]
    means = {
        direction: {name: _mean(name, [part[direction][name] for part in parts]) for name in parts[0][direction]}
        for direction in DIRECTIONS
    }
    size = _thousands(num_images // folds)
    return {
        "images": num_images,
        "captions": len(embeddings.texts),
        "protocol": size if folds == 1 else f"{folds} folds of {size}",
        **means,
        "rsum": round(float(np.mean([part["rsum"] for part in parts])), 6),
    }


def flatten(result: dict[str, Any]) -> dict[str, float]:
    """One level of names, as ``image_to_text R@1``, for logs and curves."""
    flat = {f"{side} {name}": value for side in DIRECTIONS for name, value in result[side].items()}
    return {**flat, "rsum": result["rsum"]}


def _mean(name: str, figures: list[float]) -> float:
    """The mean; a median rank is an int where it is whole."""
    mean = float(np.mean(figures))
    return int(mean) if name == "median_rank" and mean.is_integer() else mean


def _score(embeddings: Embeddings) -> dict[str, Any]:
    ranks = compute_ranks(embeddings.images, embeddings.texts, embeddings.image_of_caption, embeddings.similarity)
    metrics = _metrics()
    sides = {side: {name: metric(_side(ranks, side)) for name, metric in metrics.items()} for side in DIRECTIONS}
    rsum = sum(sides[side][f"R@{k}"] for side in DIRECTIONS for k in RECALLS)
    return {**sides, "rsum": rsum}


def _side(ranks: Ranks, side: str) -> np.ndarray:
    return ranks.image_to_text if side == "image_to_text" else ranks.text_to_image


def _metrics() -> dict[str, Metric]:
    recalls: dict[str, Metric] = {f"R@{k}": catalog.build("metric", "recall", {"k": k}) for k in RECALLS}
    middle: Metric = catalog.build("metric", "median-rank", {})
    mean: Metric = catalog.build("metric", "mean-rank", {})
    return {**recalls, "median_rank": middle, "mean_rank": mean}


def _cut(embeddings: Embeddings, folds: int) -> list[Embeddings]:
    size = len(embeddings.images) // folds
    parts = []
    for first in range(0, size * folds, size):
        inside = (embeddings.image_of_caption >= first) & (embeddings.image_of_caption < first + size)
        owner = embeddings.image_of_caption[inside] - first
        images = embeddings.images[first : first + size]
        parts.append(Embeddings(images, embeddings.texts[inside], owner, embeddings.similarity))
    return parts


def _thousands(count: int) -> str:
    return f"{count // 1000}K" if count and count % 1000 == 0 else str(count)
