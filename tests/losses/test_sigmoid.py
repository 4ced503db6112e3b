"""The sigmoid loss against a loop over pairs in float64."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.loss_batches import BATCHES, batch

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError


def sigmoid(**args):
    return catalog.build("loss", "sigmoid", args).double()


def naive(scores, positives, scale, bias):
    total = 0.0
    for row, row_positives in zip(scores.tolist(), positives.tolist(), strict=True):
        for score, is_positive in zip(row, row_positives, strict=True):
            sign = 1 if is_positive else -1
            total -= math.log(1 / (1 + math.exp(-sign * (scale * score + bias))))
    return total / positives.shape[1]


@pytest.mark.parametrize("image_of_caption", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("args", [{}, {"scale": 4.0, "bias": 1.5}])
def test_the_loss_equals_the_loop(image_of_caption, seed, args):
    scores, positives = batch(image_of_caption, seed)
    loss = sigmoid(**args)
    value = loss(scores, positives)
    assert value.shape == ()
    scale, bias = loss.log_scale.exp().item(), loss.bias.item()
    assert value.item() == pytest.approx(naive(scores, positives, scale, bias), rel=1e-10)


def test_the_initial_values_are_those_of_the_paper():
    loss = sigmoid()
    assert {name: p.item() for name, p in loss.named_parameters()} == {
        "log_scale": pytest.approx(math.log(10), rel=1e-6),
        "bias": -10.0,
    }


def test_gradients_of_scores_scale_and_bias():
    scores, positives = batch(BATCHES["several captions per image"])
    loss = sigmoid(scale=3.0, bias=-1.0)
    inputs = (scores, loss.log_scale, loss.bias)
    assert torch.autograd.gradcheck(lambda s, *_: loss(s, positives), inputs)


def test_captions_of_one_image_are_all_positives():
    scores, positives = batch([0, 0, 1])
    (gradient,) = torch.autograd.grad(sigmoid()(scores, positives), scores)
    assert (gradient[positives] < 0).all() and (gradient[~positives] > 0).all()


def test_large_scores_in_float32_agree_with_float64():
    scores, positives = batch(BATCHES["several captions per image"], spread=1000.0)
    exact = sigmoid()(scores, positives)
    scores32 = scores.detach().float().requires_grad_()
    value = sigmoid().float()(scores32, positives)
    value.backward()
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert scores32.grad.isfinite().all()


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_is_not_positive_is_rejected(scale):
    with pytest.raises(ConfigError, match="scale must be above 0"):
        sigmoid(scale=scale)
