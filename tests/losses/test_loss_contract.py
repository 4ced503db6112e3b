"""What every loss must keep, found by its file: finite, right about positives, blind to the order of a batch."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from helpers.loss_batches import BATCHES, MANY, batch
from torch import nn

from xmodal_cli import catalog

NAMES = catalog.names("loss")


def build(name):
    """The loss in float64, and its parameters if it has any."""
    loss = catalog.build("loss", name, {})
    return loss.double() if isinstance(loss, nn.Module) else loss


@pytest.mark.parametrize("name", NAMES)
def test_it_is_documented(name):
    module = catalog.load("loss", name)
    assert module.__doc__ and module.build.__doc__


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_of_caption", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("spread", [0.3, 1e3])
def test_value_and_gradients_are_finite_in_float32(name, image_of_caption, spread):
    scores, positives = batch(image_of_caption, spread=spread)
    scores = scores.detach().float().requires_grad_()
    loss = catalog.build("loss", name, {})
    value = loss(scores, positives)
    assert value.shape == () and value.dtype == torch.float32
    assert value.isfinite()
    value.backward()
    assert scores.grad.isfinite().all()
    for parameter in loss.parameters() if isinstance(loss, nn.Module) else ():
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_of_caption", MANY.values(), ids=MANY)
def test_the_gradient_is_that_of_finite_differences(name, image_of_caption):
    scores, positives = batch(image_of_caption)
    loss = build(name)
    assert torch.autograd.gradcheck(lambda s: loss(s, positives), (scores,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_of_caption", MANY.values(), ids=MANY)
@pytest.mark.parametrize("seed", range(2))
def test_a_gradient_step_raises_positives_above_negatives(name, image_of_caption, seed):
    scores, positives = batch(image_of_caption, seed, spread=0.6)
    value = build(name)(scores, positives)
    assert value.item() > 0
    (gradient,) = torch.autograd.grad(value, scores)
    assert (gradient[positives] <= 0).all()
    assert (gradient[~positives] >= 0).all()
    assert (gradient[positives] < 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_caption_is_never_a_negative_of_its_own_image(name):
    """However well one caption of an image scores, the image's other captions cost no more for it."""
    scores, positives = batch([0, 0, 0, 1, 2], seed=1)
    loss = build(name)
    costs = []
    for of_first in (-1.0, -0.5, 0.0, 0.5, 1.0, 5.0):
        with torch.no_grad():
            scores[0, 0] = of_first
        value = loss(scores, positives)
        (gradient,) = torch.autograd.grad(value, scores)
        costs.append(value.item())
        assert (gradient[0, :3] <= 0).all()
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_cost_next_to_nothing(name):
    scores, positives = batch(BATCHES["images that come twice"])
    loss = build(name)
    perfect = loss(10 * (2.0 * positives.double() - 1), positives).item()
    assert perfect == pytest.approx(0, abs=1e-6)
    assert loss(scores, positives).item() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_and_captions_does_not_matter(name):
    scores, positives = batch(BATCHES["one or three, mixed"])
    images, captions = torch.randperm(scores.shape[0]), torch.randperm(scores.shape[1])
    loss = build(name)
    shuffled = loss(scores[images][:, captions], positives[images][:, captions])
    assert shuffled.item() == pytest.approx(loss(scores, positives).item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_its_inputs_alone(name):
    scores, positives = batch(BATCHES["images that come twice"])
    before = scores.detach().clone(), positives.clone()
    build(name)(scores, positives).backward()
    assert torch.equal(scores, before[0]) and torch.equal(positives, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_page_on_extending_lists_it_with_its_arguments(name):
    page = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
    stem = name.replace("-", "_")
    (row,) = [r for r in page.read_text(encoding="utf-8").splitlines() if r.startswith(f"| `{stem}` | `")]
    listed = [cell.split("=")[0] for cell in row.split("|")[2].split("`") if "=" in cell]
    assert listed == list(inspect.signature(catalog.load("loss", name).build).parameters)
