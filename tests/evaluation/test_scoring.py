"""Retrieval metrics of embeddings: both directions, rsum, folds, the name of the protocol."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.evaluation.scoring import Embeddings, flatten, nest, score_embeddings, unnest
from xmodal_cli.retrieval.ranks import compute_ranks

METRICS = {"R@1", "R@5", "R@10", "median_rank", "mean_rank"}


def embeddings(num_images: int, similarity: str = "cosine", seed: int = 0, noise: float = 1.0) -> Embeddings:
    """Captions close to their images, shuffled; the number of captions per image varies."""
    rng = np.random.default_rng(seed)
    images = np.abs(rng.normal(size=(num_images, 12))).astype(np.float32)
    image_of_caption = rng.permutation(np.repeat(np.arange(num_images), rng.integers(1, 6, num_images)))
    texts = np.abs(images[image_of_caption] + noise * rng.normal(size=(len(image_of_caption), 12))).astype(np.float32)
    return Embeddings(images, texts, image_of_caption, similarity)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
def test_the_metrics_equal_those_of_the_ranks(similarity):
    given = embeddings(40, similarity)
    result = score_embeddings(given)
    ranks = compute_ranks(given.images, given.texts, given.image_of_caption, similarity)
    for side, values in (("image_to_text", ranks.image_to_text), ("text_to_image", ranks.text_to_image)):
        assert set(result.sides[side]) == METRICS
        for k in (1, 5, 10):
            assert result.sides[side][f"R@{k}"] == pytest.approx(100 * np.mean(values <= k))
        assert result.sides[side]["median_rank"] == np.floor(np.median(values - 1)) + 1
        assert result.sides[side]["mean_rank"] == pytest.approx(values.mean())
    recalls = [result.sides[side][f"R@{k}"] for side in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    assert result.rsum == pytest.approx(sum(recalls))
    assert (result.images, result.captions) == (40, len(given.texts))
    assert 0 < result.rsum < 600


def test_folds_are_means_over_parts_scored_separately():
    given = embeddings(43)
    result = score_embeddings(given, folds=5)
    parts = []
    for fold in range(5):
        rows = [c for c in range(len(given.texts)) if given.image_of_caption[c] // 8 == fold]
        image_of_caption = given.image_of_caption[rows] - 8 * fold
        part = Embeddings(given.images[8 * fold : 8 * fold + 8], given.texts[rows], image_of_caption, "cosine")
        parts.append(score_embeddings(part))
    for side in ("image_to_text", "text_to_image"):
        for name in METRICS:
            assert result.sides[side][name] == pytest.approx(np.mean([p.sides[side][name] for p in parts]))
    assert result.rsum == pytest.approx(np.mean([p.rsum for p in parts]))
    assert (result.images, result.protocol) == (43, "5 folds of 8")
    assert result.rsum != score_embeddings(given).rsum


@pytest.mark.parametrize(
    ("num_images", "folds", "protocol"),
    [(1000, 1, "1K"), (5000, 1, "5K"), (5000, 5, "5 folds of 1K"), (999, 1, "999"), (150, 3, "3 folds of 50")],
)
def test_the_protocol_is_named_as_in_the_papers(num_images, folds, protocol):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(num_images, 4)).astype(np.float32)
    given = Embeddings(images, images, np.arange(num_images), "cosine")
    assert score_embeddings(given, folds).protocol == protocol


@pytest.mark.parametrize("folds", [0, -1, 41])
def test_invalid_folds_are_rejected(folds):
    with pytest.raises(ConfigError, match="folds"):
        score_embeddings(embeddings(40), folds)


def test_a_fold_without_captions_is_rejected():
    given = embeddings(10)
    in_second_half = given.image_of_caption >= 5
    with pytest.raises(BadData):
        score_embeddings(
            Embeddings(given.images, given.texts[in_second_half], given.image_of_caption[in_second_half], "cosine"), 2
        )


def test_nest_and_unnest_are_inverse():
    result = score_embeddings(embeddings(40))
    flat = flatten(result)
    assert len(flat) == 11
    assert all(isinstance(value, int | float) for value in flat.values())
    assert flat["image_to_text R@5"] == result.image_to_text["R@5"]
    assert nest(flat) == {**result.sides, "rsum": result.rsum}
    assert unnest(nest({"epoch": 2, **flat})) == {"epoch": 2, **flat}
