"""Losses of taggers equal their formulas in a loop, prefer the right tags, and refuse invalid arguments."""

from __future__ import annotations

import math

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError

LOGITS = torch.tensor([[2.0, -1.0, 0.3], [-3.0, 0.0, 4.0]])
TARGETS = torch.tensor([[1.0, 0.0, 0.4], [0.0, 1.0, 0.0]])


def mean_over_images(term) -> float:
    rows = zip(LOGITS.tolist(), TARGETS.tolist(), strict=True)
    return sum(term(1 / (1 + math.exp(-x)), y) for xs, ys in rows for x, y in zip(xs, ys, strict=True)) / len(LOGITS)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_binary_cross_entropy_is_its_formula(weight):
    expected = mean_over_images(lambda p, y: -weight * y * math.log(p) - (1 - y) * math.log(1 - p))
    loss = catalog.build("tag_loss", "binary-cross-entropy", {"positive_weight": weight})
    assert loss(LOGITS, TARGETS).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("positive", "negative", "margin"), [(0.0, 4.0, 0.05), (1.0, 2.0, 0.2), (0.0, 0.0, 0.0)])
def test_asymmetric_is_its_formula(positive, negative, margin):
    def term(p, y):
        shifted = max(p - margin, 0)
        return -y * (1 - p) ** positive * math.log(p) - (1 - y) * shifted**negative * math.log(1 - shifted)

    args = {"gamma_positive": positive, "gamma_negative": negative, "margin": margin}
    loss = catalog.build("tag_loss", "asymmetric", args)
    assert loss(LOGITS, TARGETS).item() == pytest.approx(mean_over_images(term), rel=1e-5)


@pytest.mark.parametrize("name", catalog.names("tag_loss"))
def test_the_right_tags_have_a_smaller_loss_and_extreme_logits_a_finite_gradient(name):
    loss, targets = catalog.build("tag_loss", name, {}), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    right = 6 * (2 * targets - 1)
    assert loss(right, targets) < loss(torch.zeros(2, 2), targets) < loss(-right, targets)
    for sign in (1, -1):
        logits = (sign * 200 * (2 * targets - 1)).requires_grad_()
        value = loss(logits, targets)
        value.backward()
        assert value.isfinite() and logits.grad is not None and bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("binary-cross-entropy", {"positive_weight": 0.0}),
        ("asymmetric", {"gamma_negative": -1.0}),
        ("asymmetric", {"margin": 1.0}),
    ],
)
def test_invalid_arguments(name, args):
    with pytest.raises(ConfigError, match=next(iter(args))):
        catalog.build("tag_loss", name, args)
