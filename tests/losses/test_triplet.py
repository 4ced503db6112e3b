"""The triplet loss against a loop over triplets in float64."""

from __future__ import annotations

import pytest
import torch
from helpers.loss_batches import BATCHES, WITH_NEGATIVES, batch, terms

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError

MARGIN = 0.2


def naive(scores, positives, reduce=sum):
    """The sum over positive pairs and directions; ``reduce`` combines the costs of one pair and direction."""
    return sum(
        reduce([max(0.0, MARGIN - positive + n) for n in negatives] or [0.0])
        for positive, negatives in terms(scores, positives)
    )


def naive_semi_hard(scores, positives):
    """The best negative below the pair and within the margin; if all are above the pair, the worst; else nothing."""
    total = 0.0
    for positive, negatives in terms(scores, positives):
        band = [n for n in negatives if positive - MARGIN < n < positive]
        if band:
            total += MARGIN - positive + max(band)
        elif negatives and min(negatives) >= positive:
            total += MARGIN - positive + min(negatives)
    return total


def triplet(**args):
    return catalog.build("loss", "triplet", {"margin": MARGIN, **args})


@pytest.mark.parametrize("image_of_caption", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("hardest", "reduce"), [(False, sum), (True, max)], ids=["sum", "hardest"])
def test_the_loss_equals_the_loop(image_of_caption, seed, hardest, reduce):
    scores, positives = batch(image_of_caption, seed)
    loss = triplet(hardest_negative=hardest)(scores, positives)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive(scores, positives, reduce), rel=1e-12)


@pytest.mark.parametrize("image_of_caption", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("seed", range(5))
def test_the_semi_hard_loss_equals_the_loop(image_of_caption, seed):
    scores, positives = batch(image_of_caption, seed)
    loss = triplet(semi_hard=True)(scores, positives)
    assert loss.item() == pytest.approx(naive_semi_hard(scores, positives), rel=1e-12)


def semi_hard_cost(positive, *negatives):
    """The cost of the first image of a batch in which all other pairs have no cost."""
    others = torch.full((len(negatives), 1 + len(negatives)), -9.0)
    others[:, 1:].fill_diagonal_(9.0)
    scores = torch.cat([torch.tensor([[positive, *negatives]]), others])
    return triplet(semi_hard=True)(scores, torch.eye(len(scores), dtype=torch.bool)).item()


def test_which_negative_is_semi_hard():
    assert semi_hard_cost(0.5, 0.9, 0.45, 0.35) == pytest.approx(0.15)  # two within the margin: the higher one
    assert semi_hard_cost(0.5, 0.9, 0.1) == 0  # one below the pair, but beyond the margin
    assert semi_hard_cost(0.5, 0.9, 0.6) == pytest.approx(0.3)  # none below the pair: the lowest one
    assert semi_hard_cost(0.5, 0.5, 0.45) == pytest.approx(0.15)  # an equal score is not below the pair


def test_captions_of_one_image_are_not_negatives_of_each_other():
    scores, positives = batch([0, 0, 1])
    with torch.no_grad():
        scores[0] = torch.tensor([-5.0, 5.0, -9.0])  # the first caption of image 0 is far worse than the second
        scores[1] = torch.tensor([-9.0, -9.0, 5.0])
    for args in ({}, {"hardest_negative": True}, {"semi_hard": True}):
        assert triplet(**args)(scores, positives).item() == 0


@pytest.mark.parametrize("args", [{}, {"hardest_negative": True}, {"semi_hard": True}])
@pytest.mark.parametrize("image_of_caption", WITH_NEGATIVES.values(), ids=WITH_NEGATIVES)
def test_gradients(args, image_of_caption):
    scores, positives = batch(image_of_caption)
    loss = triplet(**args)
    assert torch.autograd.gradcheck(lambda s: loss(s, positives), (scores,))


def test_all_violating_negatives_have_gradients_or_only_the_hardest():
    scores, positives = batch([0, 1, 2])
    with torch.no_grad():
        scores.copy_(torch.tensor([[0.0, 0.5, 0.3], [-9.0, 0.0, -9.0], [-9.0, -9.0, 0.0]]))
    triplet()(scores, positives).backward()
    assert (scores.grad[0, 1:] > 0).all()
    scores.grad = None
    triplet(hardest_negative=True)(scores, positives).backward()
    assert scores.grad[0, 1] > 0
    assert scores.grad[0, 2] == 1  # from the other direction only: image 0 is the hardest negative of caption 2
    assert scores.grad[0, 0] == -1


@pytest.mark.parametrize("image_of_caption", BATCHES.values(), ids=BATCHES)
def test_the_loss_of_one_sampled_negative_is_between_the_easiest_and_the_hardest(image_of_caption):
    scores, positives = batch(image_of_caption)
    loss = triplet(ncon=1)
    values = {round(loss(scores, positives).item(), 9) for _ in range(40)}
    assert min(values) >= naive(scores, positives, min) - 1e-9
    assert max(values) <= naive(scores, positives, max) + 1e-9
    assert len(values) > 1 or len(set(image_of_caption)) < 3


def test_exactly_the_negatives_are_sampled():
    """Two images, the second with three captions, with a different cost for each sampled negative."""
    positives = torch.tensor([[True, False, False, False], [False, True, True, True]])
    scores = torch.tensor([[0.0, 0.1, 0.2, 0.3], [-9.0, 9.0, 9.0, 9.0]])  # only the pair (0, 0) costs anything
    values = {round(triplet(ncon=1)(scores, positives).item(), 6) for _ in range(100)}
    assert values == {0.3, 0.4, 0.5}  # the margin plus the score of a negative; 0.2 would be the positive


def test_the_expectation_of_the_sampled_loss_is_a_fraction_of_the_full_one():
    scores, positives = batch(list(range(6)))
    torch.manual_seed(0)
    mean = sum(triplet(ncon=2)(scores, positives).item() for _ in range(3000)) / 3000
    assert mean == pytest.approx(naive(scores, positives) * 2 / 5, rel=0.02)  # 2 of 5 negatives


def test_sampling_depends_on_the_seed():
    scores, positives = batch(list(range(12)))
    loss = triplet(ncon=2)

    def losses(seed):
        torch.manual_seed(seed)
        return [loss(scores, positives).item() for _ in range(5)]

    assert losses(1) == losses(1) != losses(2)


@pytest.mark.parametrize("args", [{}, {"hardest_negative": True}, {"ncon": 3}, {"semi_hard": True}])
def test_a_batch_without_negatives_has_zero_loss(args):
    scores, positives = batch([0, 0])
    loss = triplet(**args)(scores, positives)
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"margin": 0.0}, "margin must be above 0"),
        ({"margin": -1.0}, "margin must be above 0"),
        ({"ncon": -1}, "ncon must be at least 0"),
        ({"ncon": 2, "hardest_negative": True}, "hardest_negative and ncon exclude each other"),
        ({"semi_hard": True, "hardest_negative": True}, "hardest_negative and semi_hard exclude each other"),
        ({"semi_hard": True, "ncon": 1}, "ncon and semi_hard exclude each other"),
    ],
)
def test_invalid_arguments_are_errors(args, message):
    with pytest.raises(ConfigError, match=message):
        catalog.build("loss", "triplet", args)
