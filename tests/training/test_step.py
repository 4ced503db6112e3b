"""The L2 penalty of a training step against the weight decay of Kiros' visual-semantic-embedding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xmodal_cli.device import Compute
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.task import Task

DECAY_C = 0.05


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.layer, self.frozen = nn.Embedding(7, 4), nn.Linear(4, 3), nn.Linear(3, 1)
        self.frozen.requires_grad_(False)

    def cost(self) -> torch.Tensor:
        return self.frozen(torch.tanh(self.layer(self.words(torch.arange(7))))).square().mean()


def take_step(l2_penalty: float, weight_decay: float = 0.0, grad_clip: float = 0.0) -> tuple[Model, float, float]:
    """One step; the model with its gradients, the loss and the norm before clipping."""
    model, empty = Model(), torch.zeros(0)
    task = Task(model, [], lambda batch: model.cost(), dict, "score", print)  # type: ignore[arg-type]
    optimizer = build_optimizer(group_parameters(model, lambda name: 1.0, weight_decay), "adam", 0.1, weight_decay)
    step = TrainStep(task, optimizer, lambda step: 1.0, grad_clip, Compute("cpu", "fp32"), l2_penalty)
    loss, _, norm = step(Batch(empty, empty, empty, empty), 0)
    return model, loss.item(), norm.item()


def kiros_gradients() -> tuple[float, dict[str, torch.Tensor]]:
    """``cost += decay_c * sum((v ** 2).sum())`` over all weights that are trained, as in train.py."""
    model = Model()
    trained = {name: value for name, value in model.named_parameters() if not name.startswith("frozen")}
    weight_decay = torch.tensor(0.0)
    for value in trained.values():
        weight_decay = weight_decay + (value**2).sum()
    cost = model.cost() + DECAY_C * weight_decay
    cost.backward()
    return cost.item(), {name: value.grad for name, value in trained.items()}


def test_the_l2_penalty_has_the_gradient_of_decay_c():
    cost, expected = kiros_gradients()
    model, loss, norm = take_step(DECAY_C)
    assert loss == pytest.approx(cost, rel=1e-6)
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert set(found) == set(expected) == {"words.weight", "layer.weight", "layer.bias"}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    assert norm == pytest.approx(sum(g.square().sum().item() for g in expected.values()) ** 0.5, rel=1e-5)


def test_the_penalty_is_clipped_with_the_rest_of_the_gradient():
    model, _, norm = take_step(DECAY_C, grad_clip=0.01)
    assert norm > 0.01
    clipped = sum(v.grad.square().sum().item() for v in model.parameters() if v.grad is not None) ** 0.5
    assert clipped == pytest.approx(0.01, rel=1e-3)


def test_weight_decay_is_another_update():
    plain, _, _ = take_step(0.0)
    penalized, _, _ = take_step(DECAY_C)
    decayed, _, _ = take_step(0.0, weight_decay=2 * DECAY_C)
    assert torch.equal(plain.layer.bias, decayed.layer.bias)  # biases have no weight decay
    assert not torch.equal(plain.layer.bias.grad, penalized.layer.bias.grad)
