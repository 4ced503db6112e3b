"""Ranks of the right items, both ways, exact and in little memory. Knows arrays only.

A rank is 1 + the number of wrong items that score at least as high as the best right one: ties count against the
model. Scores are made block by block in float32; those too close to the right item's score to be told apart by
float32 are made again in float64, so the ranks are those of float64 arithmetic on the given vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.models.array_similarity import array_similarity

BLOCK_SCORES = 2**24  # float32 scores held at once: 64 MB
EXACT_TEXTS = 2048  # captions whose scores are made in float64 at once
TIE = 1e-8  # float64 scores closer than this part of float32's error are the same


@dataclass(frozen=True)
class Ranks:
    """1-based ranks: ``image_to_text`` (captioned images,), ``text_to_image`` (captions,), int64."""

    image_to_text: np.ndarray
    text_to_image: np.ndarray


def compute_ranks(images: np.ndarray, texts: np.ndarray, image_of_caption: np.ndarray, similarity: str) -> Ranks:
    """Ranks of ``images`` (images, dim) and ``texts`` (captions, dim) against each other.

    ``image_of_caption`` (captions,) gives each caption's image; an image without captions is a distractor only.
    ``similarity`` is the name of one: ``cosine`` compares by inner product (pass unit vectors), ``order`` by the
    order-violation penalty.
    Raises BadData for shapes that disagree and for values that are not finite.
    """
    check_vectors(images, texts, image_of_caption, similarity)
    images, texts = np.ascontiguousarray(images, np.float32), np.ascontiguousarray(texts, np.float32)
    owner = np.ascontiguousarray(image_of_caption, np.int64)
    right = exact_scores(images, texts, owner, np.arange(len(texts)), similarity)
    best = np.full(len(images), -np.inf)
    np.maximum.at(best, owner, right)
    counts = _count(images, texts, owner, (best, right), similarity)
    return Ranks(1 + counts[0][np.unique(owner)], 1 + counts[1])


def _count(
    images: np.ndarray, texts: np.ndarray, owner: np.ndarray, bars: tuple[np.ndarray, np.ndarray], similarity: str
) -> tuple[np.ndarray, np.ndarray]:
    """Number of wrong items at or above each bar: (images,) and (captions,)."""
    from xmodal_cli.retrieval._counting import allocate_counts, count_higher_scoring_negatives

    best, right = bars
    above_caption = np.zeros(len(texts), np.int64)
    above_image = np.zeros(len(images), np.int64)
    band = array_similarity(similarity).error_bound(images, texts)
    of_image, of_caption = _window(best, band), _window(right, band)
    rows = max(1, min(len(images), BLOCK_SCORES // max(1, len(texts))))
    for start in range(0, len(images), rows):
        block = slice(start, min(len(images), start + rows))
        scores = score_matrix(images[block], texts, similarity)
        striped, close = allocate_counts(scores)
        window = of_image[0][block], of_image[1][block]
        count_higher_scoring_negatives(scores, owner, start, window, of_caption, (striped, above_caption, close))
        above_image[block] += striped.sum(0)
        if close.any():
            resolved = _resolve(
                scores, close, images[block], texts, owner - start, (best[block], right, band), similarity
            )
            above_image[block] += resolved[0]
            above_caption += resolved[1]
    return above_image, above_caption


def _window(bars: np.ndarray, band: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the window of float32 scores that are too close to each bar to be told from it, rounded outwards."""
    ends = (bars - band).astype(np.float32), (bars + band).astype(np.float32)
    return np.nextafter(ends[0], np.float32(-np.inf)), np.nextafter(ends[1], np.float32(np.inf))


def score_matrix(images: np.ndarray, texts: np.ndarray, similarity: str) -> np.ndarray:
    """(images, dim), (texts, dim) float32 -> (images, texts) float32."""
    return array_similarity(similarity).score_matrix(images, texts)


def exact_matrix(images: np.ndarray, texts: np.ndarray, similarity: str) -> np.ndarray:
    """(images, dim), (texts, dim) -> (images, texts) float64."""
    return array_similarity(similarity).exact_matrix(images, texts)


def _resolve(
    scores: np.ndarray,
    close: np.ndarray,
    images: np.ndarray,
    texts: np.ndarray,
    owner: np.ndarray,
    bars: tuple[np.ndarray, np.ndarray, float],
    similarity: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Decide in float64 the wrong pairs of a block that float32 left within the band of a bar.

    A few images go together with every caption that is ``close`` to one of them: dense blocks, so that a collapsed
    model, which leaves every pair undecided, does not take forever.
    """
    from xmodal_cli.retrieval._counting import GROUP

    best, right, band = bars
    tie = band * TIE
    of_image, of_caption = _window(best, band), _window(right, band)
    of_images, of_captions = np.zeros(len(images), np.int64), np.zeros(len(texts), np.int64)
    for number, columns in enumerate(map(np.flatnonzero, close)):
        rows = np.arange(number * GROUP, min(len(images), number * GROUP + GROUP))
        bar = best[rows, None]
        for part in np.split(columns, range(EXACT_TEXTS, len(columns), EXACT_TEXTS)):
            rough = scores[np.ix_(rows, part)]
            exact = exact_matrix(images[rows], texts[part], similarity)
            wrong = owner[part] != rows[:, None]
            near_image = (of_image[0][rows, None] <= rough) & (rough <= of_image[1][rows, None])
            near_caption = (of_caption[0][part] <= rough) & (rough <= of_caption[1][part])
            of_images[rows] += (wrong & near_image & (exact >= bar - tie)).sum(1)
            of_captions[part] += (wrong & near_caption & (exact >= right[part] - tie)).sum(0)
    return of_images, of_captions


def exact_scores(
    images: np.ndarray, texts: np.ndarray, of_image: np.ndarray, of_text: np.ndarray, similarity: str
) -> np.ndarray:
    """Float64 scores of the pairs (of_image[n], of_text[n]): (pairs,)."""
    pairwise = array_similarity(similarity).exact_pairs
    size = max(1, 2**21 // images.shape[1])
    parts = [
        pairwise(images[of_image[n : n + size]].astype(np.float64), texts[of_text[n : n + size]].astype(np.float64))
        for n in range(0, len(of_text), size)
    ]
    return np.concatenate(parts)


def check_vectors(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, similarity: str) -> None:
    """Raise BadData for shapes that disagree and values that are not finite, ConfigError for an unknown similarity."""
    if catalog.canonical(similarity) not in (known := catalog.names("similarity")):
        raise ConfigError(f"similarity {similarity!r} cannot be ranked", f"known: {', '.join(known)}")
    hint = "the vectors of images and texts must come from one model and one dataset"
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or images.shape[1] == 0:
        raise BadData(f"images {images.shape} and texts {texts.shape} are not rows of one length", hint)
    if len(texts) == 0 or owner.shape != (len(texts),) or owner.min() < 0 or owner.max() >= len(images):
        raise BadData(f"image_of_caption does not give one of {len(images)} images to each of {len(texts)} texts", hint)
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        hint = "the model diverged; train with a lower --set optimizer.lr"
        raise BadData("the vectors hold values that are not finite", hint)


def keep_num_threads() -> None:
    """Start numba's threads now, and leave torch the number of threads it has.

    Numba sets the number for the whole process when its first kernel runs, to one per CPU whatever OMP_NUM_THREADS
    says, and other numbers of threads round differently: the epochs after the first ranks would not be those of a
    resumed run.
    """
    import numpy as np
    import torch

    pass

    num_threads = torch.get_num_threads()
    one = np.ones((1, 1), dtype=np.float32)
    compute_ranks(one, one, np.zeros(1, dtype=np.int64), "cosine")
    torch.set_num_threads(num_threads)
