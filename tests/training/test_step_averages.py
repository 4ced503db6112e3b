"""Moving averages of the weights, evaluation of the initial model, and learning-rate multipliers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xmodal_cli.paths import STATE_FILE
from xmodal_cli.training.loop import Interrupted
from xmodal_cli.training.optimizer import build_optimizer, build_schedule, group_parameters


def failing_at(step):
    """A batch loss that is interrupted at one step, counted from 1."""
    count = 0

    def loss(batch, value):
        nonlocal count
        count += 1
        if count == step:
            raise KeyboardInterrupt
        return value

    return loss


def tensors(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.5, 0.98])
def test_the_average_is_that_of_a_loop_over_the_steps(toy, decay):
    run = toy(ema=decay)
    run.train()
    after = [weights for weights, _ in run.steps[1:]] + [[p.detach() for p in run.model.parameters()]]
    expected = [value.double() for value in after[0]]  # it starts at the weights after the first step
    for weights in after[1:]:
        expected = [decay * mean + (1 - decay) * new.double() for mean, new in zip(expected, weights, strict=True)]
    found = list(run.average.module.parameters())
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[0], run.model.layers[0].weight, atol=1e-4)
    assert int(run.average.n_averaged) == len(after)


def test_the_average_is_evaluated_and_not_trained(toy):
    run = toy(ema=0.9)
    state = run.train()
    with torch.inference_mode():
        score = -run.average.eval()(torch.eye(6)).square().sum().item()
        other = -run.model.eval()(torch.eye(6)).square().sum().item()
    assert state.history[-1]["score"] == pytest.approx(score)
    assert state.history[-1]["score"] != pytest.approx(other)


def test_an_average_does_not_change_training(toy):
    plain, averaged = toy("plain"), toy("averaged", ema=0.9)
    plain.train()
    averaged.train()
    assert all(torch.equal(v, averaged.model.state_dict()[k]) for k, v in plain.model.state_dict().items())


@pytest.mark.parametrize("step", [3, 9, 17])
def test_a_resumed_run_has_the_average_of_an_uninterrupted_one(toy, step):
    whole = toy("whole", ema=0.9)
    expected = whole.train()
    with pytest.raises(Interrupted):
        toy("died", ema=0.9, batch_loss=failing_at(step)).train()
    resumed = toy("died", ema=0.9)
    assert resumed.train() == expected
    for part in ("model", "average"):
        before, after = tensors(getattr(whole, part)), tensors(getattr(resumed, part))
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert (whole.folder / "last" / STATE_FILE).read_bytes() == (resumed.folder / "last" / STATE_FILE).read_bytes()


# ---------------------------------------------------------------------------- the initial model


def test_the_initial_model_is_evaluated_first_and_kept_if_nothing_is_better(toy):
    run = toy(scores=[5.0, 1.0, 4.0, 5.0])
    state = run.train(eval_initial=True)
    assert [entry["epoch"] for entry in state.history] == [0, 1, 2, 3]
    assert (state.best_epoch, state.best_score) == (0, 5.0)
    assert run.saved == [{"score": 5.0}]


def test_a_better_epoch_replaces_the_initial_model(toy):
    run = toy(scores=[5.0, 6.0, 4.0, 7.0])
    assert run.train(eval_initial=True).best_epoch == 3
    assert run.saved == [{"score": 5.0}, {"score": 6.0}, {"score": 7.0}]


def test_by_default_the_initial_model_is_not_evaluated(toy):
    assert [entry["epoch"] for entry in toy().train().history] == [1, 2, 3]


def test_evaluating_the_initial_model_does_not_change_training(toy):
    plain, watched = toy("plain"), toy("watched")
    plain.train()
    watched.train(eval_initial=True)
    assert all(torch.equal(v, watched.model.state_dict()[k]) for k, v in plain.model.state_dict().items())


def test_patience_counts_from_the_initial_model(toy):
    run = toy(scores=[5.0, 1.0, 1.0, 9.0])
    state = run.train(eval_initial=True, patience=2)
    assert (state.epoch, state.best_epoch) == (2, 0)


@pytest.mark.parametrize("step", [1, 3, 9])
def test_an_interrupted_and_resumed_run_evaluates_the_initial_model_once(toy, step):
    whole = toy("whole")
    expected = whole.train(eval_initial=True)
    died = toy("died", batch_loss=failing_at(step))
    with pytest.raises(Interrupted):
        died.train(eval_initial=True)
    assert len(died.saved) >= 1  # the initial model at least
    assert died.saved[0] == whole.saved[0]
    assert toy("died").train(eval_initial=True) == expected


# ---------------------------------------------------------------------------- learning-rate multipliers


class Parts(nn.Module):
    """A tower, a frozen part of it, a head and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4))
        self.tower[2].requires_grad_(False)
        self.head = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.tensor(2.0))


def lr_scale(name: str) -> float:
    return 0.1 if name.startswith("tower") else 1.0


def grouped() -> tuple[Parts, dict[str, tuple[float, float]], list[dict]]:
    """The model, and the lr_scale and weight decay of each parameter."""
    model = Parts()
    groups = group_parameters(model, lr_scale, 0.5)
    found = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    return model, {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}, groups


def test_parameters_are_grouped_by_lr_scale_and_only_matrices_decay():
    _, found, groups = grouped()
    assert found == {
        "tower.0.weight": (0.1, 0.5),
        "tower.0.bias": (0.1, 0.0),
        "tower.1.weight": (0.1, 0.0),
        "tower.1.bias": (0.1, 0.0),
        "head.weight": (1.0, 0.5),
        "head.bias": (1.0, 0.0),
        "scale": (1.0, 0.0),
    }
    assert len(groups) == 4


def test_frozen_parameters_are_left_out():
    model, found, groups = grouped()
    optimized = {id(p) for group in groups for p in group["params"]}
    assert not optimized & {id(p) for p in model.tower[2].parameters()}
    assert not any(name.startswith("tower.2") for name in found)


def test_weight_decay_changes_only_matrices():
    model, _, groups = grouped()
    optimizer = build_optimizer(groups, "adamw", lr=0.1, weight_decay=0.5)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for value in model.parameters():
        value.grad = torch.zeros_like(value)
    optimizer.step()
    for name, value in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if value.ndim > 1 and value.requires_grad else 1.0
        torch.testing.assert_close(value.detach(), factor * before[name])


def test_lr_scale_applies_at_every_step(toy):
    factor = build_schedule("cosine", 7, 3, 4, 15, 0.1)
    run = toy(lr_scale=lambda name: 0.25 if name.startswith("layers.0") else 1.0)
    run.train(lr_factor=factor)
    scales = [group["lr_scale"] for group in run.groups]
    assert sorted(set(scales)) == [0.25, 1.0]
    assert len(run.steps) > 7
    for step, (_, rates) in enumerate(run.steps):
        assert rates == pytest.approx([0.01 * factor(step) * scale for scale in scales])


def test_a_lr_scale_nothing_keeps_weights_where_they_are(toy):
    run = toy(lr_scale=lambda name: 0.0 if name.startswith("layers.0") else 1.0)
    run.train()
    (first, *_), _ = run.steps[0]
    assert torch.equal(run.model.layers[0].weight, first)
    assert not torch.equal(run.model.layers[3].weight, run.steps[0][0][2])


def test_a_resumed_run_keeps_its_groups(toy):
    settings = {"optimizer": "adamw", "lr_scale": lambda name: 0.25 if name.startswith("layers.0") else 1.0}
    whole = toy("whole", **settings)
    whole.train()
    with pytest.raises(Interrupted):
        toy("died", **settings, batch_loss=failing_at(9)).train()
    resumed = toy("died", **settings)
    resumed.train()
    assert all(torch.equal(v, resumed.model.state_dict()[k]) for k, v in whole.model.state_dict().items())
    assert resumed.optimizer_used.state_dict()["param_groups"] == whole.optimizer_used.state_dict()["param_groups"]
