"""InfoNCE against a loop over pairs in float64 and against cross-entropy; its gradients and numerical limits."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.loss_batches import BATCHES, WITH_NEGATIVES, batch, terms
from torch import nn
from torch.nn.functional import cross_entropy

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError


def infonce(**args):
    return catalog.build("loss", "infonce", args)


def naive(scores, positives, scale, smoothing=0.0):
    """Per pair and direction: the cross-entropy over the pair and its negatives, with label smoothing."""
    costs = []
    for positive, negatives in terms(scores, positives):
        candidates = [positive, *negatives]
        total = math.log(sum(math.exp(scale * s) for s in candidates))
        target = [smoothing / len(candidates)] * len(candidates)
        target[0] += 1 - smoothing
        costs.append(sum(t * (total - scale * s) for t, s in zip(target, candidates, strict=True)))
    return sum(costs) / len(costs)


@pytest.mark.parametrize("image_of_caption", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_the_loss_equals_the_loop(image_of_caption, seed, smoothing, temperature):
    scores, positives = batch(image_of_caption, seed)
    value = infonce(temperature=temperature, label_smoothing=smoothing)(scores, positives)
    assert value.shape == ()
    assert value.item() == pytest.approx(naive(scores, positives, 1 / temperature, smoothing), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_with_one_caption_per_image_it_is_cross_entropy_in_both_directions(smoothing):
    scores, positives = batch(BATCHES["one caption per image"])
    targets = torch.arange(len(scores))
    directions = [cross_entropy(s / 0.07, targets, label_smoothing=smoothing) for s in (scores, scores.T)]
    value = infonce(temperature=0.07, label_smoothing=smoothing)(scores, positives)
    assert value.item() == pytest.approx(sum(d.item() for d in directions) / 2, rel=1e-10)


def test_captions_of_one_image_are_independent():
    """The gradient of a positive does not depend on the score of another positive."""
    scores, positives = batch([0, 0, 1, 2])

    def gradient(of_first):
        with torch.no_grad():
            scores[0, 0] = of_first
        return torch.autograd.grad(infonce()(scores, positives), scores)[0]

    low, high = gradient(-1.0), gradient(1.0)
    assert torch.equal(low[0, 1], high[0, 1])
    assert low[0, 1] < 0
    assert low[0, 0] < high[0, 0] < 0


@pytest.mark.parametrize("args", [{}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize("image_of_caption", WITH_NEGATIVES.values(), ids=WITH_NEGATIVES)
def test_gradients(args, image_of_caption):
    scores, positives = batch(image_of_caption)
    fixed, learned = infonce(**args), infonce(learnable=True, **args).double()
    assert torch.autograd.gradcheck(lambda s: fixed(s, positives), (scores,))
    assert torch.autograd.gradcheck(lambda s, _: learned(s, positives), (scores, learned.log_scale))


@pytest.mark.parametrize("image_of_caption", [BATCHES["one image"], BATCHES["one pair"]])
@pytest.mark.parametrize("args", [{}, {"label_smoothing": 0.1}])
def test_a_batch_without_negatives_has_zero_loss_and_zero_gradient(image_of_caption, args):
    scores, positives = batch(image_of_caption)
    value = infonce(**args)(scores, positives)
    value.backward()
    assert value.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_scores_in_float32_agree_with_float64(smoothing):
    scores, positives = batch(BATCHES["several captions per image"], spread=1000.0)
    loss = infonce(temperature=0.01, label_smoothing=smoothing)  # exp() of logits up to 1e5 overflows
    exact = loss(scores, positives)
    scores32 = scores.detach().float().requires_grad_()
    value = loss(scores32, positives)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert torch.allclose(
        torch.autograd.grad(value, scores32)[0].double(), torch.autograd.grad(exact, scores)[0], atol=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype):
    scores, positives = batch(BATCHES["several captions per image"])
    value = infonce(temperature=0.01)(scores.to(dtype), positives)
    value.backward()
    assert value.isfinite() and scores.grad.isfinite().all()


def test_a_fixed_scale_is_not_a_parameter():
    loss = infonce()
    assert isinstance(loss, nn.Module)
    assert list(loss.parameters()) == [] and loss.state_dict() == {}


def test_a_learned_scale_starts_at_the_temperature():
    scores, positives = batch(BATCHES["several captions per image"])
    loss = infonce(temperature=0.1, learnable=True)
    assert [name for name, _ in loss.named_parameters()] == ["log_scale"]
    assert loss(scores, positives).item() == pytest.approx(infonce(temperature=0.1)(scores, positives).item(), rel=1e-6)


def test_a_learned_scale_does_not_exceed_its_maximum_and_can_decrease_again():
    positives = torch.eye(4, dtype=torch.bool)
    good = 2.0 * positives - 1  # all pairs are right, so the scale grows
    loss = infonce(temperature=0.5, learnable=True, max_scale=3.0)
    optimizer = torch.optim.SGD(loss.parameters(), lr=20.0)
    for _ in range(30):
        optimizer.zero_grad()
        loss(good, positives).backward()
        optimizer.step()
    assert loss(good, positives).item() == pytest.approx(infonce(temperature=1 / 3)(good, positives).item(), rel=1e-5)
    assert loss.log_scale.exp().item() == pytest.approx(3.0)
    loss(-good, positives).backward()  # all pairs are wrong
    optimizer.step()
    assert loss.log_scale.exp().item() < 2.9


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be at least 0 and below 1"),
        ({"max_scale": -1}, "max_scale must be above 0"),
        ({"temperature": 0.005, "learnable": True}, "above max_scale 100"),
    ],
)
def test_invalid_arguments_are_errors(args, message):
    with pytest.raises(ConfigError, match=message):
        infonce(**args)
