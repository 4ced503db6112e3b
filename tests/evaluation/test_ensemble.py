"""Ensembles against the mean of score matrices, and models that cannot be combined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.ensemble import join, with_ensemble
from xmodal_cli.evaluation.scoring import EmbeddedModel, Embeddings, rank_folds
from xmodal_cli.types import Example, ImageTextDataset

IMAGE_OF_CAPTION = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 3))


def scores_of(given: Embeddings):
    images, texts = given.images.astype(np.float64), given.texts.astype(np.float64)
    if given.similarity == "cosine":
        return images @ texts.T
    return -np.square(np.maximum(texts[None] - images[:, None], 0)).sum(-1)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
def test_ranks_equal_those_of_the_mean_scores(similarity, vectors):
    members = [EmbeddedModel(f"m{n}", vectors(n, IMAGE_OF_CAPTION, 30, 6 + n, similarity)) for n in range(3)]
    (*single, ensemble) = with_ensemble(members)
    assert single == members
    assert ensemble.name == "m0 + m1 + m2"
    mean = np.mean([scores_of(member.vectors) for member in members], axis=0)
    np.testing.assert_allclose(scores_of(ensemble.vectors) / 3, mean, rtol=1e-12)
    (fold,) = rank_folds(ensemble.vectors)
    negative = IMAGE_OF_CAPTION[None] != np.arange(30)[:, None]
    positive = mean[IMAGE_OF_CAPTION, np.arange(90)]
    assert fold.ranks.text_to_image.tolist() == (1 + (negative & (mean >= positive)).sum(0)).tolist()
    best = np.where(negative, -np.inf, mean).max(1)
    assert fold.ranks.image_to_text.tolist() == (1 + (negative & (mean >= best[:, None])).sum(1)).tolist()


def test_an_ensemble_of_copies_equals_the_model(vectors):
    one = EmbeddedModel("m", vectors(1, IMAGE_OF_CAPTION, 30, 8))
    (fold,), (thrice,) = rank_folds(one.vectors), rank_folds(join([one, one, one]).vectors)
    assert (fold.ranks.text_to_image == thrice.ranks.text_to_image).all()


def dataset(captions: str) -> ImageTextDataset:
    examples = tuple(
        Example(f"{n}.jpg", None, tuple(f"{captions} {n} {c}" for c in range((images == n).sum())), "test")
        for images in (IMAGE_OF_CAPTION,)
        for n in range(30)
    )
    return ImageTextDataset("toy", "jsonl", None, examples)


def test_incompatible_members_are_rejected(vectors):
    one = EmbeddedModel("a", vectors(1, IMAGE_OF_CAPTION, 30, 8))
    with pytest.raises(ConfigError, match="an ensemble of a needs another model"):
        join([one])
    with pytest.raises(IncompatibleFeatures, match="one uses the cosine, the other the order similarity"):
        join([one, EmbeddedModel("b", vectors(1, IMAGE_OF_CAPTION, 30, 8, "order"))])
    with pytest.raises(IncompatibleFeatures, match="30 images and 90 captions and 29 images and 89 captions"):
        join([one, EmbeddedModel("b", vectors(1, IMAGE_OF_CAPTION[:-1] % 29, 29, 8))])
    with pytest.raises(IncompatibleFeatures, match="have different images or captions"):
        join([one, EmbeddedModel("b", vectors(1, IMAGE_OF_CAPTION[::-1].copy(), 30, 8))])
    with_captions = replace(one, dataset=dataset("a dog"))
    with pytest.raises(IncompatibleFeatures, match="have different images or captions"):
        join([with_captions, replace(one, dataset=dataset("a cat"))])
    assert join([one, with_captions]).dataset is with_captions.dataset


def test_an_incompatible_member_is_rejected_before_the_next_one_is_computed(vectors):
    def members():
        yield EmbeddedModel("a", vectors(1, IMAGE_OF_CAPTION, 30, 8))
        yield EmbeddedModel("b", vectors(1, IMAGE_OF_CAPTION, 30, 8, "order"))
        raise AssertionError("the third model was computed")

    with pytest.raises(IncompatibleFeatures):
        list(with_ensemble(members()))
