"""Ranks against a slow float64 loop, with ties and with several block sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.retrieval import ranks as ranks_module
from xmodal_cli.retrieval.ranks import compute_ranks

SIMILARITIES = ("cosine", "order")


def score(image: np.ndarray, text: np.ndarray, similarity: str) -> float:
    if similarity == "cosine":
        return float(sum(float(a) * float(b) for a, b in zip(image, text, strict=True)))
    return -float(sum(max(0.0, float(t) - float(v)) ** 2 for v, t in zip(image, text, strict=True)))


def slow_ranks(images, texts, owner, similarity, tie=1e-12):
    """1 + the number of negatives at or above the best positive."""
    scores = [[score(image, text, similarity) for text in texts] for image in images]
    of_images, of_texts = [], []
    for i in range(len(images)):
        positives = [scores[i][c] for c in range(len(texts)) if owner[c] == i]
        if positives:
            negatives = [scores[i][c] for c in range(len(texts)) if owner[c] != i]
            of_images.append(1 + sum(s >= max(positives) - tie for s in negatives))
    for c in range(len(texts)):
        negatives = [scores[i][c] for i in range(len(images)) if i != owner[c]]
        of_texts.append(1 + sum(s >= scores[owner[c]][c] - tie for s in negatives))
    return of_images, of_texts


def check(images, texts, owner, similarity):
    ranks = compute_ranks(images, texts, owner, similarity)
    expected = slow_ranks(images, texts, owner, similarity)
    assert ranks.image_to_text.tolist() == expected[0]
    assert ranks.text_to_image.tolist() == expected[1]
    return ranks


def vectors(kind: str, rng: np.random.Generator, num_images: int, num_texts: int, dim: int):
    draw = {
        "real": lambda n: rng.normal(size=(n, dim)),
        "unit": lambda n: (x := np.abs(rng.normal(size=(n, dim)))) / np.linalg.norm(x, axis=1, keepdims=True),
        "integers, many ties": lambda n: rng.integers(-1, 2, (n, dim)),
    }[kind]
    return draw(num_images).astype(np.float32), draw(num_texts).astype(np.float32)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", ["real", "unit", "integers, many ties"])
@pytest.mark.parametrize("captions", ["five per image", "any number, shuffled", "all of one image"])
def test_ranks_equal_those_of_the_loop(similarity, kind, captions):
    rng = np.random.default_rng(len(kind) + len(captions))
    num_images, num_texts = 14, 70
    images, texts = vectors(kind, rng, num_images, num_texts, 6)
    owner = {
        "five per image": np.repeat(np.arange(num_images), 5),
        "any number, shuffled": rng.permutation(rng.integers(0, 9, num_texts)),  # images from 9 on have no caption
        "all of one image": np.full(num_texts, 3),
    }[captions]
    ranks = check(images, texts, owner, similarity)
    assert len(ranks.image_to_text) == len(set(owner.tolist()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 25), st.integers(1, 4), st.sampled_from(SIMILARITIES))
def test_ranks_of_any_small_integers(seed, num_images, num_texts, dim, similarity):
    rng = np.random.default_rng(seed)
    images, texts = (rng.integers(-2, 3, (n, dim)).astype(np.float32) for n in (num_images, num_texts))
    check(images, texts, rng.integers(0, num_images, num_texts), similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("block", [1, 40, 77, 300])
@pytest.mark.parametrize("exact_texts", [1, 5])
def test_the_block_size_does_not_change_ranks(similarity, block, exact_texts, monkeypatch):
    rng = np.random.default_rng(block)
    images, texts = vectors("integers, many ties", rng, 40, 77, 5)
    owner = rng.integers(0, 38, 77)
    one_block = compute_ranks(images, texts, owner, similarity)
    monkeypatch.setattr(ranks_module, "BLOCK_SCORES", block)
    monkeypatch.setattr(ranks_module, "EXACT_TEXTS", exact_texts)
    blocks = check(images, texts, owner, similarity)
    assert (one_block.image_to_text == blocks.image_to_text).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_more_captions_than_one_stripe(similarity):
    rng = np.random.default_rng(3)
    images, texts = vectors("integers, many ties", rng, 9, 530, 3)
    check(images, texts, rng.integers(0, 9, 530), similarity)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_equal_scores_give_the_worst_ranks(similarity):
    vector = np.random.default_rng(0).normal(size=300).astype(np.float32)
    images, texts = np.tile(vector, (50, 1)), np.tile(vector, (250, 1))
    ranks = compute_ranks(images, texts, np.repeat(np.arange(50), 5), similarity)
    assert (ranks.image_to_text == 1 + 245).all()
    assert (ranks.text_to_image == 1 + 49).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_duplicate_images_count_against_the_model(similarity):
    rng = np.random.default_rng(1)
    images, texts = vectors("unit", rng, 20, 60, 64)
    images[10:] = images[:10]
    texts[30:] = texts[:30]
    ranks = check(images, texts, np.repeat(np.arange(20), 3), similarity)
    assert (ranks.text_to_image >= 2).all()


def test_perfect_vectors_rank_first():
    eye = np.eye(30, dtype=np.float32)
    for similarity in SIMILARITIES:
        ranks = compute_ranks(eye, np.repeat(eye, 4, 0), np.repeat(np.arange(30), 4), similarity)
        assert set(ranks.image_to_text) == set(ranks.text_to_image) == {1}


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_differences_below_float32_precision_count(similarity):
    """A nearly collapsed model: the scores agree to seven digits, and the ranks are those of float64."""
    rng = np.random.default_rng(5)
    center = np.abs(rng.normal(size=48))
    images, texts = (center + 1e-5 * rng.normal(size=(n, 48)) for n in (24, 50))
    images, texts = images.astype(np.float32), texts.astype(np.float32)
    ranks = check(images, texts, rng.integers(0, 24, 50), similarity)
    assert len(set(ranks.text_to_image.tolist())) > 10


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_ranks_do_not_depend_on_the_scale_of_vectors(similarity, scale):
    images, texts = vectors("unit", np.random.default_rng(2), 30, 90, 32)
    owner = np.repeat(np.arange(30), 3)
    plain = compute_ranks(images, texts, owner, similarity)
    scaled = compute_ranks(images * np.float32(scale), texts * np.float32(scale), owner, similarity)
    assert (plain.image_to_text == scaled.image_to_text).all()
    assert (plain.text_to_image == scaled.text_to_image).all()


def test_order_similarity_is_not_symmetric():
    images = np.array([[3.0, 3.0], [1.0, 0.0]], np.float32)  # the first image satisfies both texts
    texts = np.array([[1.0, 1.0], [1.0, 0.0]], np.float32)
    ranks = compute_ranks(images, texts, np.array([0, 1]), "order")
    assert ranks.text_to_image.tolist() == [1, 2]  # the second text is implied by both images: a tie
    assert ranks.image_to_text.tolist() == [2, 1]


def test_half_precision_and_strided_vectors():
    rng = np.random.default_rng(8)
    images, texts = vectors("real", rng, 12, 30, 8)
    owner = rng.integers(0, 12, 30).astype(np.int32)
    half = compute_ranks(images.astype(np.float16), texts.astype(np.float16)[:, ::-1][:, ::-1], owner, "cosine")
    full = compute_ranks(images.astype(np.float16).astype(np.float32), texts.astype(np.float16), owner, "cosine")
    assert (half.text_to_image == full.text_to_image).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["images", "texts"])
def test_values_that_are_not_finite(bad, side):
    vectors_by_side = {"images": np.ones((3, 4), np.float32), "texts": np.ones((5, 4), np.float32)}
    vectors_by_side[side][1, 2] = bad
    with pytest.raises(BadData, match="not finite"):
        compute_ranks(vectors_by_side["images"], vectors_by_side["texts"], np.zeros(5, np.int64), "cosine")


@pytest.mark.parametrize(
    ("images", "texts", "owner"),
    [
        ((3, 4), (5, 3), [0] * 5),
        ((3,), (5, 3), [0] * 5),
        ((3, 4), (5, 4, 1), [0] * 5),
        ((3, 4), (5, 4), [0] * 4),
        ((3, 4), (5, 4), [0, 0, 0, 0, 3]),
        ((3, 4), (5, 4), [0, 0, 0, 0, -1]),
        ((0, 4), (5, 4), [0] * 5),
        ((3, 4), (0, 4), []),
        ((3, 0), (5, 0), [0] * 5),
    ],
)
def test_shapes_that_do_not_match(images, texts, owner):
    with pytest.raises(BadData):
        compute_ranks(np.zeros(images, np.float32), np.zeros(texts, np.float32), np.array(owner, np.int64), "cosine")


def test_an_unknown_similarity():
    with pytest.raises(ConfigError, match="'euclid'"):
        compute_ranks(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1, np.int64), "euclid")
