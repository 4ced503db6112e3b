"""Retrieval metrics of embeddings, as in the papers: ranks, R@K, median and mean rank, rsum, averaged over folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xmodal_cli.errors import ConfigError
from xmodal_cli.metrics.retrieval.recall import K
from xmodal_cli.metrics.retrieval_scores import RetrievalScore, retrieval_scores
from xmodal_cli.retrieval.ranks import Ranks, check_vectors, compute_ranks
from xmodal_cli.types import ImageTextDataset

DIRECTIONS = ("image_to_text", "text_to_image")
RECALLS = tuple(f"R@{k}" for k in K)  # rsum is their sum over both directions


@dataclass(frozen=True)
class Embeddings:
    """The vectors of a split: ``images`` (images, dim), ``texts`` (captions, dim), ``image_of_caption`` (captions,)."""

    images: np.ndarray
    texts: np.ndarray
    image_of_caption: np.ndarray
    similarity: str


@dataclass(frozen=True)
class EmbeddedModel:
    """The embeddings of one model, or of an embeddings file.

    ``dataset`` has one example per row of ``vectors.images`` and one caption per row of ``vectors.texts``, in the same
    order; None if it is unknown.
    """

    name: str
    vectors: Embeddings
    dataset: ImageTextDataset | None = None


@dataclass(frozen=True)
class Fold:
    """A subset of the images of a split with their captions, evaluated separately.

    ``images`` (images,) and ``captions`` (captions,) are row indices of the split.
    """

    vectors: Embeddings
    images: np.ndarray
    captions: np.ndarray
    ranks: Ranks


def score_embeddings(embeddings: Embeddings, folds: int = 1) -> dict[str, Any]:
    """Counts, protocol, metrics of both directions and rsum, as in ``xmodal eval --json``. Raises as ``rank_folds``."""
    return compute_metrics(embeddings, rank_folds(embeddings, folds))


def rank_folds(embeddings: Embeddings, folds: int = 1) -> list[Fold]:
    """Rank a split in ``folds`` consecutive folds with the same number of images; the remaining images are dropped.

    Raises ConfigError if there are fewer images than folds, BadData for invalid vectors.
    """
    check_vectors(embeddings.images, embeddings.texts, embeddings.image_of_caption, embeddings.similarity)
    num_images = len(embeddings.images)
    if not 1 <= folds <= max(1, num_images):
        raise ConfigError(f"{num_images} images cannot be split into {folds} folds", "give a smaller --folds")
    size = num_images // folds
    return [_rank_fold(embeddings, first, size) for first in range(0, size * folds, size)]


def compute_metrics(embeddings: Embeddings, folds: list[Fold]) -> dict[str, Any]:
    """The metrics of a model, each the mean over the folds."""
    scores = retrieval_scores()
    per_fold = [_score(fold.ranks, scores) for fold in folds]
    means = {
        side: {score.name: score.mean([metrics[side][score.name] for metrics in per_fold]) for score in scores}
        for side in DIRECTIONS
    }
    size = _thousands(len(embeddings.images) // len(folds))
    return {
        "images": len(embeddings.images),
        "captions": len(embeddings.texts),
        "protocol": size if len(folds) == 1 else f"{len(folds)} folds of {size}",
        **means,
        "rsum": round(float(np.mean([metrics["rsum"] for metrics in per_fold])), 6),
    }


def flatten(result: dict[str, Any]) -> dict[str, float]:
    """The metrics under flat names, such as ``image_to_text R@1``, for logs and curves."""
    flat = {f"{side} {name}": value for side in DIRECTIONS for name, value in result[side].items()}
    return {**flat, "rsum": result["rsum"]}


def _score(ranks: Ranks, scores: Sequence[RetrievalScore]) -> dict[str, Any]:
    sides = {side: {score.name: score.metric(ranks_of(ranks, side)) for score in scores} for side in DIRECTIONS}
    return {**sides, "rsum": sum(sides[side][name] for side in DIRECTIONS for name in RECALLS)}


def ranks_of(ranks: Ranks, side: str) -> np.ndarray:
    """The ranks of ``side``, one of ``DIRECTIONS``."""
    return ranks.image_to_text if side == "image_to_text" else ranks.text_to_image


def _rank_fold(split: Embeddings, first: int, size: int) -> Fold:
    images = np.arange(first, first + size)
    captions = np.flatnonzero((split.image_of_caption >= first) & (split.image_of_caption < first + size))
    image_of_caption = split.image_of_caption[captions] - first
    vectors = Embeddings(split.images[first : first + size], split.texts[captions], image_of_caption, split.similarity)
    return Fold(
        vectors, images, captions, compute_ranks(vectors.images, vectors.texts, image_of_caption, split.similarity)
    )


def _thousands(count: int) -> str:
    return f"{count // 1000}K" if count and count % 1000 == 0 else str(count)
