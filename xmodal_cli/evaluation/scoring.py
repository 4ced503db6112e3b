"""From vectors to the table that the papers print: ranks, R@K, median and mean rank, rsum, folds."""

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
RECALLS = tuple(f"R@{k}" for k in K)  # what rsum is the sum of


@dataclass(frozen=True)
class Embeddings:
    """Vectors of a split: ``images`` (images, dim), ``texts`` (captions, dim), ``image_of_caption`` (captions,)."""

    images: np.ndarray
    texts: np.ndarray
    image_of_caption: np.ndarray
    similarity: str


@dataclass(frozen=True)
class EmbeddedModel:
    """What is evaluated: its name, its vectors, and what they are vectors of where ``--data`` tells it.

    ``part`` holds one example per row of ``vectors.images``, whose captions are the rows of ``vectors.texts``.
    """

    name: str
    vectors: Embeddings
    part: ImageTextDataset | None = None


@dataclass(frozen=True)
class Fold:
    """Some images of a split and their captions, ranked among themselves.

    ``images`` (images,) and ``captions`` (captions,) are their rows in the whole split.
    """

    vectors: Embeddings
    images: np.ndarray
    captions: np.ndarray
    ranks: Ranks


def score_embeddings(embeddings: Embeddings, folds: int = 1) -> dict[str, Any]:
    """Counts, protocol, both directions and rsum, as ``xmodal eval --json`` prints them. Raises as ``rank_folds``."""
    return compute_metrics(embeddings, rank_folds(embeddings, folds))


def rank_folds(embeddings: Embeddings, folds: int = 1) -> list[Fold]:
    """The ranks of a split, cut into ``folds`` runs of equally many images; what is left over at the end is left out.

    Raises ConfigError where there are fewer images than folds, BadData for unusable vectors.
    """
    check_vectors(embeddings.images, embeddings.texts, embeddings.image_of_caption, embeddings.similarity)
    num_images = len(embeddings.images)
    if not 1 <= folds <= max(1, num_images):
        raise ConfigError(f"{num_images} images cannot be cut into {folds} folds", "give a smaller --folds")
    size = num_images // folds
    return [_fold(embeddings, first, size) for first in range(0, size * folds, size)]


def compute_metrics(embeddings: Embeddings, folds: list[Fold]) -> dict[str, Any]:
    """The table's row: every figure is the mean over the folds."""
    scores = retrieval_scores()
    parts = [_score(fold.ranks, scores) for fold in folds]
    means = {
        side: {score.name: score.mean([part[side][score.name] for part in parts]) for score in scores}
        for side in DIRECTIONS
    }
    size = _thousands(len(embeddings.images) // len(folds))
    return {
        "images": len(embeddings.images),
        "captions": len(embeddings.texts),
        "protocol": size if len(folds) == 1 else f"{len(folds)} folds of {size}",
        **means,
        "rsum": round(float(np.mean([part["rsum"] for part in parts])), 6),
    }


def flatten(result: dict[str, Any]) -> dict[str, float]:
    """One level of names, as ``image_to_text R@1``, for logs and curves."""
    flat = {f"{side} {name}": value for side in DIRECTIONS for name, value in result[side].items()}
    return {**flat, "rsum": result["rsum"]}


def _score(ranks: Ranks, scores: Sequence[RetrievalScore]) -> dict[str, Any]:
    sides = {side: {score.name: score.metric(side_of(ranks, side)) for score in scores} for side in DIRECTIONS}
    return {**sides, "rsum": sum(sides[side][name] for side in DIRECTIONS for name in RECALLS)}


def side_of(ranks: Ranks, side: str) -> np.ndarray:
    """The ranks of one of ``DIRECTIONS``."""
    return ranks.image_to_text if side == "image_to_text" else ranks.text_to_image


def _fold(whole: Embeddings, first: int, size: int) -> Fold:
    images = np.arange(first, first + size)
    captions = np.flatnonzero((whole.image_of_caption >= first) & (whole.image_of_caption < first + size))
    owner = whole.image_of_caption[captions] - first
    part = Embeddings(whole.images[first : first + size], whole.texts[captions], owner, whole.similarity)
    return Fold(part, images, captions, compute_ranks(part.images, part.texts, owner, part.similarity))


def _thousands(count: int) -> str:
    return f"{count // 1000}K" if count and count % 1000 == 0 else str(count)
