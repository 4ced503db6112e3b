"""Ensembles against the mean of score matrices, and what makes none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.ensemble import join, with_ensemble
from xmodal_cli.evaluation.scoring import EmbeddedModel, Embeddings, rank_folds
from xmodal_cli.types import Example, ImageTextDataset

OWNER = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 3))


def scores_of(given: Embeddings):
    images, texts = given.images.astype(np.float64), given.texts.astype(np.float64)
    if given.similarity == "cosine":
        return images @ texts.T
    return -np.square(np.maximum(texts[None] - images[:, None], 0)).sum(-1)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
def test_ranks_are_those_of_the_mean_of_the_scores(similarity, vectors):
    members = [EmbeddedModel(f"m{n}", vectors(n, OWNER, 30, 6 + n, similarity)) for n in range(3)]
    (*alone, both) = with_ensemble(members)
    assert alone == members
    assert both.name == "m0 + m1 + m2"
    mean = np.mean([scores_of(member.vectors) for member in members], axis=0)
    np.testing.assert_allclose(scores_of(both.vectors) / 3, mean, rtol=1e-12)
    (fold,) = rank_folds(both.vectors)
    wrong = OWNER[None] != np.arange(30)[:, None]
    own = mean[OWNER, np.arange(90)]
    assert fold.ranks.text_to_image.tolist() == (1 + (wrong & (mean >= own)).sum(0)).tolist()
    best = np.where(wrong, -np.inf, mean).max(1)
    assert fold.ranks.image_to_text.tolist() == (1 + (wrong & (mean >= best[:, None])).sum(1)).tolist()


def test_three_of_one_model_are_that_model(vectors):
    one = EmbeddedModel("m", vectors(1, OWNER, 30, 8))
    (fold,), (thrice,) = rank_folds(one.vectors), rank_folds(join([one, one, one]).vectors)
    assert (fold.ranks.text_to_image == thrice.ranks.text_to_image).all()


def dataset(captions: str) -> ImageTextDataset:
    examples = tuple(
        Example(f"{n}.jpg", None, tuple(f"{captions} {n} {c}" for c in range((owner == n).sum())), "test")
        for owner in (OWNER,)
        for n in range(30)
    )
    return ImageTextDataset("toy", "jsonl", None, examples)


def test_what_makes_no_ensemble(vectors):
    one = EmbeddedModel("a", vectors(1, OWNER, 30, 8))
    with pytest.raises(ConfigError, match="a alone is no ensemble"):
        join([one])
    with pytest.raises(IncompatibleFeatures, match="one compares by cosine, the other by order"):
        join([one, EmbeddedModel("b", vectors(1, OWNER, 30, 8, "order"))])
    with pytest.raises(IncompatibleFeatures, match="30 images and 90 captions and 29 images and 89 captions"):
        join([one, EmbeddedModel("b", vectors(1, OWNER[:-1] % 29, 29, 8))])
    with pytest.raises(IncompatibleFeatures, match="not given the same images"):
        join([one, EmbeddedModel("b", vectors(1, OWNER[::-1].copy(), 30, 8))])
    told = replace(one, part=dataset("a dog"))
    with pytest.raises(IncompatibleFeatures, match="not given the same images"):
        join([told, replace(one, part=dataset("a cat"))])
    assert join([one, told]).part is told.part


def test_members_that_do_not_fit_are_told_as_soon_as_they_are_seen(vectors):
    def members():
        yield EmbeddedModel("a", vectors(1, OWNER, 30, 8))
        yield EmbeddedModel("b", vectors(1, OWNER, 30, 8, "order"))
        raise AssertionError("the third model was computed for nothing")

    with pytest.raises(IncompatibleFeatures):
        list(with_ensemble(members()))
