"""Retrieval metrics of embeddings, as in the papers: ranks, R@K, median and mean rank, rsum, averaged over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.vectors_origin import VectorsOrigin
from xmodal_cli.metrics.retrieval.recall import K
from xmodal_cli.metrics.retrieval.recall import build as recall
from xmodal_cli.metrics.retrieval_scores import RetrievalScore, retrieval_scores
from xmodal_cli.result_json import OPTIONAL
from xmodal_cli.retrieval.ranks import Ranks, check_vectors, compute_ranks
from xmodal_cli.types import ImageTextDataset

DIRECTIONS = ("image_to_text", "text_to_image")
RECALLS = tuple(f"R@{k}" for k in K)  # rsum is their sum over both directions


@dataclass(frozen=True)
class Embeddings:
    """The vectors of a split: ``images`` (images, dim), ``texts`` (captions, dim), ``image_of_caption`` (captions,).

    ``origin`` is what the rows of a file are, None if it is unknown.
    """

    images: np.ndarray
    texts: np.ndarray
    image_of_caption: np.ndarray
    similarity: str
    origin: VectorsOrigin | None = None


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


@dataclass(frozen=True)
class ConfidenceIntervals:
    """``(low, high)`` of each metric: 95% confidence intervals."""

    image_to_text: dict[str, tuple[float, float]]
    text_to_image: dict[str, tuple[float, float]]
    rsum: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class RetrievalResult:
    """The retrieval metrics of a model, each the mean over the folds.

    Recalls are percentages; ``rsum`` is the sum of the six. ``data`` and ``split`` are None for an embeddings file
    without a dataset. ``bootstrap`` is the number of resamples of ``confidence``.
    """

    model: str = ""
    data: str | None = None
    split: str | None = None
    images: int
    captions: int
    protocol: str
    image_to_text: dict[str, float]
    text_to_image: dict[str, float]
    rsum: float
    confidence: ConfidenceIntervals | None = field(default=None, metadata=OPTIONAL)
    bootstrap: int | None = field(default=None, metadata=OPTIONAL)

    @property
    def sides(self) -> dict[str, dict[str, float]]:
        """The metrics by direction."""
        return {"image_to_text": self.image_to_text, "text_to_image": self.text_to_image}


def score_embeddings(embeddings: Embeddings, folds: int = 1) -> RetrievalResult:
    """The metrics of embeddings, without names of model and data. Raises as ``rank_folds``."""
    return compute_metrics(embeddings, rank_folds(embeddings, folds))


def rank_folds(embeddings: Embeddings, folds: int = 1) -> list[Fold]:
    """Rank a split in ``folds`` consecutive folds with the same number of images; the remaining images are dropped.

    Raises ConfigError if there are fewer images than folds, BadData for invalid vectors.
    """
    check_vectors(embeddings.images, embeddings.texts, embeddings.image_of_caption, embeddings.similarity)
    num_images = len(embeddings.images)
    check_folds(num_images, folds)
    size = num_images // folds
    return [_rank_fold(embeddings, first, size) for first in range(0, size * folds, size)]


def check_folds(num_images: int, folds: int) -> None:
    """Raise ConfigError if there are fewer images than folds."""
    if not 1 <= folds <= max(1, num_images):
        hint = f"give a smaller --folds, at most {max(1, num_images)}"
        raise ConfigError(f"{num_images} images cannot be split into {folds} folds", hint)


def compute_metrics(embeddings: Embeddings, folds: list[Fold], top_k: Sequence[int] = K) -> RetrievalResult:
    """The metrics of a model, each the mean over the folds, with R@K for each of ``top_k``.

    rsum is always the sum of R@1, R@5 and R@10 of both directions.
    """
    scores = retrieval_scores(top_k)
    per_fold = [_score(fold.ranks, scores) for fold in folds]
    means = {
        side: {score.name: score.mean([sides[side][score.name] for sides in per_fold]) for score in scores}
        for side in DIRECTIONS
    }
    size = _thousands(len(embeddings.images) // len(folds))
    return RetrievalResult(
        images=len(embeddings.images),
        captions=len(embeddings.texts),
        protocol=size if len(folds) == 1 else f"{len(folds)} folds of {size}",
        image_to_text=means["image_to_text"],
        text_to_image=means["text_to_image"],
        rsum=round(float(np.mean([_rsum(fold.ranks) for fold in folds])), 6),
    )


def flatten(result: RetrievalResult) -> dict[str, float]:
    """The metrics under flat names, such as ``image_to_text R@1``, for logs and curves."""
    return unnest({**result.sides, "rsum": result.rsum})


def nest(flat: Mapping[str, float]) -> dict[str, float | dict[str, float]]:
    """Flat names such as ``image_to_text R@1``, one dictionary per direction."""
    sides: dict[str, dict[str, float]] = {}
    nested: dict[str, float | dict[str, float]] = {}
    for name, value in flat.items():
        side, _, score = name.partition(" ")
        if score and side in DIRECTIONS:
            nested[side] = sides.setdefault(side, {})
            sides[side][score] = value
        else:
            nested[name] = value
    return nested


def unnest(nested: Mapping[str, float | Mapping[str, float]]) -> dict[str, float]:
    """The inverse of ``nest``."""
    flat: dict[str, float] = {}
    for name, value in nested.items():
        flat |= {f"{name} {score}": v for score, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _score(ranks: Ranks, scores: Sequence[RetrievalScore]) -> dict[str, dict[str, float]]:
    return {side: {score.name: score.metric(ranks_of(ranks, side)) for score in scores} for side in DIRECTIONS}


def _rsum(ranks: Ranks) -> float:
    return sum(recall(k)(ranks_of(ranks, side)) for side in DIRECTIONS for k in K)


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
