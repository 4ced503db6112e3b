"""The triplet loss against a naive triple loop in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError

MARGIN = 0.2


def naive(scores, positives, reduce=sum):
    """Every positive pair, both directions; ``reduce`` takes the costs of one pair and direction."""
    scores = scores.detach()
    num_images, num_captions = positives.shape
    total = 0.0
    for i, c in itertools.product(range(num_images), range(num_captions)):
        if positives[i, c]:
            costs = [MARGIN - scores[i, c] + scores[i, d] for d in range(num_captions) if not positives[i, d]]
            total += reduce([max(0.0, float(cost)) for cost in costs] or [0.0])
            costs = [MARGIN - scores[i, c] + scores[j, c] for j in range(num_images) if not positives[j, c]]
            total += reduce([max(0.0, float(cost)) for cost in costs] or [0.0])
    return total


def batch(owner: list[int], seed: int = 0):
    """Scores and positives of captions whose images are ``owner``."""
    generator = torch.Generator().manual_seed(seed)
    num_images = max(owner) + 1
    positives = torch.tensor(owner)[None, :] == torch.arange(num_images)[:, None]
    scores = 0.3 * torch.randn(num_images, len(owner), generator=generator, dtype=torch.float64) + 0.2 * positives
    return scores.requires_grad_(), positives


BATCHES = {
    "one caption each": [0, 1, 2, 3, 4, 5, 6],
    "images that come twice": [0, 0, 1, 2, 2, 2, 3],
    "one image": [0, 0, 0],
    "one pair": [0],
}


def triplet(**args):
    return catalog.build("loss", "triplet", {"margin": MARGIN, **args})


@pytest.mark.parametrize("owner", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("hardest", "reduce"), [(False, sum), (True, max)], ids=["sum", "hardest"])
def test_the_loss_is_that_of_the_loop(owner, seed, hardest, reduce):
    scores, positives = batch(owner, seed)
    loss = triplet(hardest_negative=hardest)(scores, positives)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(naive(scores, positives, reduce), rel=1e-12)


def test_captions_of_one_image_are_never_each_others_negatives():
    scores, positives = batch([0, 0, 1])
    with torch.no_grad():
        scores[0] = torch.tensor([-5.0, 5.0, -9.0])  # the first caption of image 0 is far worse than the second
        scores[1] = torch.tensor([-9.0, -9.0, 5.0])
    for hardest in (False, True):
        assert triplet(hardest_negative=hardest)(scores, positives).item() == 0


@pytest.mark.parametrize("hardest", [False, True])
def test_gradients(hardest):
    scores, positives = batch(BATCHES["images that come twice"])
    loss = triplet(hardest_negative=hardest)
    assert torch.autograd.gradcheck(lambda s: loss(s, positives), (scores,))


def test_all_negatives_that_violate_are_pushed_and_only_the_hardest_if_asked():
    scores, positives = batch([0, 1, 2])
    with torch.no_grad():
        scores.copy_(torch.tensor([[0.0, 0.5, 0.3], [-9.0, 0.0, -9.0], [-9.0, -9.0, 0.0]]))
    triplet()(scores, positives).backward()
    assert (scores.grad[0, 1:] > 0).all()
    scores.grad = None
    triplet(hardest_negative=True)(scores, positives).backward()
    assert scores.grad[0, 1] > 0
    assert scores.grad[0, 2] == 1  # from the other direction alone: image 0 is caption 2's hardest
    assert scores.grad[0, 0] == -1


@pytest.mark.parametrize("owner", BATCHES.values(), ids=BATCHES)
def test_one_sampled_negative_lies_between_the_easiest_and_the_hardest(owner):
    scores, positives = batch(owner)
    loss = triplet(ncon=1)
    drawn = {round(loss(scores, positives).item(), 9) for _ in range(40)}
    assert min(drawn) >= naive(scores, positives, min) - 1e-9
    assert max(drawn) <= naive(scores, positives, max) + 1e-9
    assert len(drawn) > 1 or len(set(owner)) < 3


def test_each_negative_is_drawn_and_nothing_else():
    """Two images, of which the second has three captions: one pair's cost tells which of them was drawn."""
    positives = torch.tensor([[True, False, False, False], [False, True, True, True]])
    scores = torch.tensor([[0.0, 0.1, 0.2, 0.3], [-9.0, 9.0, 9.0, 9.0]])  # only the pair (0, 0) costs anything
    drawn = {round(triplet(ncon=1)(scores, positives).item(), 6) for _ in range(100)}
    assert drawn == {0.3, 0.4, 0.5}  # the margin plus each negative's score; 0.2, the pair's own, never


def test_the_sampled_loss_is_the_full_one_in_expectation():
    scores, positives = batch(list(range(6)))
    torch.manual_seed(0)
    mean = sum(triplet(ncon=2)(scores, positives).item() for _ in range(3000)) / 3000
    assert mean == pytest.approx(naive(scores, positives) * 2 / 5, rel=0.02)  # 2 of 5 negatives


def test_sampling_follows_the_seed():
    scores, positives = batch(list(range(12)))
    loss = triplet(ncon=2)

    def draws(seed):
        torch.manual_seed(seed)
        return [loss(scores, positives).item() for _ in range(5)]

    assert draws(1) == draws(1) != draws(2)


@pytest.mark.parametrize("args", [{}, {"hardest_negative": True}, {"ncon": 3}])
def test_a_batch_without_negatives_costs_nothing(args):
    scores, positives = batch([0, 0])
    loss = triplet(**args)(scores, positives)
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize(
    "args", [{"margin": 0.0}, {"margin": -1.0}, {"ncon": 2, "hardest_negative": True}, {"ncon": -1}]
)
def test_bad_arguments_are_refused(args):
    with pytest.raises(ConfigError):
        catalog.build("loss", "triplet", args)


@pytest.mark.parametrize("name", catalog.names("loss"))
def test_every_loss_keeps_the_contract(name):
    module = catalog.load("loss", name)
    assert module.__doc__
    assert module.build.__doc__
    scores, positives = batch(BATCHES["images that come twice"])
    scores = scores.detach().float().requires_grad_()
    loss = catalog.build("loss", name, {})
    value = loss(scores, positives)
    assert value.shape == ()
    assert value.item() > 0
    value.backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[positives] <= 0).all()  # a step downhill draws pairs together
    assert loss(100 * positives.float(), positives).item() == pytest.approx(0, abs=1e-6)
