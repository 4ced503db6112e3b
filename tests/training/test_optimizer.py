"""Optimizers against a step done by hand, and the shapes of the schedules."""

from __future__ import annotations

import math

import pytest
import torch

from xmodal_cli.errors import UnknownName
from xmodal_cli.training.optimizer import OPTIMIZERS, SCHEDULES, build_optimizer, build_schedule, lower_lr


def schedule(name, steps_per_epoch=10, epochs=4, warmup_steps=0, step_epochs=2, gamma=0.1):
    factor = build_schedule(name, steps_per_epoch, epochs, warmup_steps, step_epochs, gamma)
    return [factor(step) for step in range(steps_per_epoch * epochs)]


def test_constant_and_step():
    assert schedule("constant") == [1.0] * 40
    assert schedule("step") == pytest.approx([1.0] * 20 + [0.1] * 20)
    assert schedule("step", step_epochs=1, gamma=0.5)[::10] == pytest.approx([1, 0.5, 0.25, 0.125])


def test_linear_and_cosine_fall_from_one_towards_zero():
    linear, cosine = schedule("linear"), schedule("cosine")
    assert linear == pytest.approx([1 - n / 40 for n in range(40)])
    assert cosine == pytest.approx([0.5 * (1 + math.cos(math.pi * n / 40)) for n in range(40)])


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_and_stays_between_0_and_1(name):
    values = schedule(name, warmup_steps=5)
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(0 < value <= 1 for value in values)
    assert values[5:] == sorted(values[5:], reverse=True)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_longer_than_the_training_is_no_error(name):
    assert schedule(name, warmup_steps=1000)[-1] == pytest.approx(0.04)


def test_adam_takes_the_step_of_the_paper():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = build_optimizer([weight], "adam", lr=0.1, weight_decay=0.0)
    weight.grad = torch.tensor([0.5, -3.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([0.9, -1.9]))  # the first step is lr * sign


def test_adamw_decays_the_weight_itself():
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = build_optimizer([weight], "adamw", lr=0.1, weight_decay=0.5)
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([1.0 * (1 - 0.1 * 0.5) - 0.1]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_the_steps_of_the_plain_one(name):
    """Fused into one pass over the weights, or not: the same numbers."""
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2)]
    fused = build_optimizer([weights[0]], name, lr=0.01, weight_decay=0.1)
    plain = OPTIMIZERS[name]([weights[1]], lr=0.01, weight_decay=0.1, foreach=False)
    for step in range(5):
        for weight, optimizer in zip(weights, (fused, plain), strict=True):
            weight.grad = torch.sin(torch.arange(7.0) + step)
            optimizer.step()
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


def test_misspelled_names_are_reported():
    with pytest.raises(UnknownName) as caught:
        build_optimizer([torch.nn.Parameter(torch.zeros(1))], "adm", 0.1, 0.0)
    assert "adam" in caught.value.hint
    with pytest.raises(UnknownName) as caught:
        schedule("cosin")
    assert caught.value.hint == "did you mean 'cosine'?"


def test_the_learning_rate_to_suggest_is_one_that_can_work():
    assert [lower_lr(lr) for lr in (1e30, 0.5, 0.001)] == [1e-3, 1e-3, 1e-4]
