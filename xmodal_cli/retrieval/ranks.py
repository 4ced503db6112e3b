"""Exact ranks of the positives, image-to-text and text-to-image, in bounded memory.

A rank is 1 + the number of negatives that score at least as high as the best positive: ties count against the model.
Scores are computed block by block in float32. Those within the float32 error of the positive's score are recomputed in
float64, so the ranks are those of float64 arithmetic on the given vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.models.array_similarity import array_similarity

BLOCK_SCORES = 2**24  # float32 scores per block: 64 MB
EXACT_TEXTS = 2048  # captions per float64 block
TIE = 1e-8  # float64 scores closer than this fraction of the float32 error bound are equal


@dataclass(frozen=True)
class Ranks:
    """1-based ranks: ``image_to_text`` (captioned images,), ``text_to_image`` (captions,), int64."""

    image_to_text: np.ndarray
    text_to_image: np.ndarray


def compute_ranks(images: np.ndarray, texts: np.ndarray, image_of_caption: np.ndarray, similarity: str) -> Ranks:
    """Ranks of ``images`` (images, dim) and ``texts`` (captions, dim) against each other.

    ``image_of_caption`` (captions,) is the row of the image of each caption; an image without captions is only a
    negative. ``similarity`` is the name of a similarity: ``cosine`` is the inner product (pass unit vectors), ``order``
    the negative order-violation penalty.
    Raises BadData for shapes that do not match and values that are not finite, ConfigError for an unknown similarity.
    """
    check_vectors(images, texts, image_of_caption, similarity)
    images, texts = np.ascontiguousarray(images, np.float32), np.ascontiguousarray(texts, np.float32)
    image_of_caption = np.ascontiguousarray(image_of_caption, np.int64)
    positive = exact_scores(images, texts, image_of_caption, np.arange(len(texts)), similarity)
    best_positive = np.full(len(images), -np.inf)
    np.maximum.at(best_positive, image_of_caption, positive)
    counts = _count_negatives(images, texts, image_of_caption, (best_positive, positive), similarity)
    return Ranks(1 + counts[0][np.unique(image_of_caption)], 1 + counts[1])


def _count_negatives(
    images: np.ndarray,
    texts: np.ndarray,
    image_of_caption: np.ndarray,
    thresholds: tuple[np.ndarray, np.ndarray],
    similarity: str,
) -> tuple[np.ndarray, np.ndarray]:
    """The number of negatives at or above the thresholds of the images, (images,), and of the captions, (captions,)."""
    from xmodal_cli.retrieval._counting import allocate_counts, count_higher_scoring_negatives

    image_thresholds, caption_thresholds = thresholds
    above_caption = np.zeros(len(texts), np.int64)
    above_image = np.zeros(len(images), np.int64)
    error = array_similarity(similarity).error_bound(images, texts)
    of_image, of_caption = _window(image_thresholds, error), _window(caption_thresholds, error)
    rows = max(1, min(len(images), BLOCK_SCORES // max(1, len(texts))))
    image_rows = image_of_caption.astype(np.int32)
    for start in range(0, len(images), rows):
        block = slice(start, min(len(images), start + rows))
        scores = score_matrix(images[block], texts, similarity)
        striped, close = allocate_counts(scores)
        window = of_image[0][block], of_image[1][block]
        counts = striped, above_caption, close
        count_higher_scoring_negatives(scores, image_rows, start, window, of_caption, counts)
        above_image[block] += striped.sum(0)
        if close.any():
            undecided = image_thresholds[block], caption_thresholds, error
            exact_counts = _count_in_float64(
                scores, close, images[block], texts, image_of_caption - start, undecided, similarity
            )
            above_image[block] += exact_counts[0]
            above_caption += exact_counts[1]
    return above_image, above_caption


def _window(thresholds: np.ndarray, error: float) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest float32 scores that may equal each threshold, rounded outwards."""
    ends = (thresholds - error).astype(np.float32), (thresholds + error).astype(np.float32)
    return np.nextafter(ends[0], np.float32(-np.inf)), np.nextafter(ends[1], np.float32(np.inf))


def score_matrix(images: np.ndarray, texts: np.ndarray, similarity: str) -> np.ndarray:
    """(images, dim), (texts, dim) float32 -> (images, texts) float32."""
    return array_similarity(similarity).score_matrix(images, texts)


def exact_matrix(images: np.ndarray, texts: np.ndarray, similarity: str) -> np.ndarray:
    """(images, dim), (texts, dim) -> (images, texts) float64."""
    return array_similarity(similarity).exact_matrix(images, texts)


def _count_in_float64(
    scores: np.ndarray,
    close: np.ndarray,
    images: np.ndarray,
    texts: np.ndarray,
    image_of_caption: np.ndarray,
    thresholds: tuple[np.ndarray, np.ndarray, float],
    similarity: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Count the negatives of a block that float32 left undecided, within the error of a threshold.

    Each group of ``GROUP`` images is scored against all captions that are ``close`` to one of them. These blocks are
    dense, so that a collapsed model, for which every pair is undecided, is not slow.
    """
    from xmodal_cli.retrieval._counting import GROUP

    image_thresholds, caption_thresholds, error = thresholds
    tie = error * TIE
    of_image, of_caption = _window(image_thresholds, error), _window(caption_thresholds, error)
    above_image, above_caption = np.zeros(len(images), np.int64), np.zeros(len(texts), np.int64)
    for group, columns in enumerate(map(np.flatnonzero, close)):
        rows = np.arange(group * GROUP, min(len(images), group * GROUP + GROUP))
        for part in np.split(columns, range(EXACT_TEXTS, len(columns), EXACT_TEXTS)):
            approximate = scores[np.ix_(rows, part)]
            exact = exact_matrix(images[rows], texts[part], similarity)
            negative = image_of_caption[part] != rows[:, None]
            near_image = (of_image[0][rows, None] <= approximate) & (approximate <= of_image[1][rows, None])
            near_caption = (of_caption[0][part] <= approximate) & (approximate <= of_caption[1][part])
            above_image[rows] += (negative & near_image & (exact >= image_thresholds[rows, None] - tie)).sum(1)
            above_caption[part] += (negative & near_caption & (exact >= caption_thresholds[part] - tie)).sum(0)
    return above_image, above_caption


def exact_scores(
    images: np.ndarray, texts: np.ndarray, image_rows: np.ndarray, text_rows: np.ndarray, similarity: str
) -> np.ndarray:
    """Float64 scores of the pairs (image_rows[n], text_rows[n]): (pairs,)."""
    pairwise = array_similarity(similarity).exact_pairs
    size = max(1, 2**21 // images.shape[1])
    parts = [
        pairwise(images[image_rows[n : n + size]].astype(np.float64), texts[text_rows[n : n + size]].astype(np.float64))
        for n in range(0, len(text_rows), size)
    ]
    return np.concatenate(parts)


def check_vectors(images: np.ndarray, texts: np.ndarray, image_of_caption: np.ndarray, similarity: str) -> None:
    """Raise BadData for shapes that do not match or non-finite values, ConfigError for an unknown similarity."""
    if catalog.canonical(similarity) not in (known := catalog.names("similarity")):
        raise ConfigError(f"similarity {similarity!r} cannot be ranked", f"known: {', '.join(known)}")
    hint = "the vectors of images and texts must come from one model and one dataset"
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or images.shape[1] == 0:
        raise BadData(f"images {images.shape} and texts {texts.shape} do not have the same dimension", hint)
    has_one_image_each = len(texts) > 0 and image_of_caption.shape == (len(texts),)
    if not has_one_image_each or image_of_caption.min() < 0 or image_of_caption.max() >= len(images):
        raise BadData(f"image_of_caption does not map {len(texts)} texts to rows of {len(images)} images", hint)
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        hint = "the model diverged; train with a lower --set optimizer.lr"
        raise BadData("the vectors contain values that are not finite", hint)


def keep_num_threads() -> None:
    """Start the threads of numba now, and restore the number of threads of torch.

    The first numba kernel sets the number of OpenMP threads of the process to one per CPU, whatever OMP_NUM_THREADS is.
    Results of torch depend on it: a run would differ from a resumed run after its first ranks.
    """
    import torch

    num_threads = torch.get_num_threads()
    one = np.ones((1, 1), dtype=np.float32)
    compute_ranks(one, one, np.zeros(1, dtype=np.int64), "cosine")
    torch.set_num_threads(num_threads)
