"""The contract of every loss in ``losses``: finite, positives above negatives, independent of the order in a batch."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from helpers.loss_batches import BATCHES, WITH_NEGATIVES, batch
from torch import nn

from xmodal_cli import catalog

NAMES = catalog.names("loss")


def build(name):
    """The loss, with its parameters in float64."""
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
@pytest.mark.parametrize("image_of_caption", WITH_NEGATIVES.values(), ids=WITH_NEGATIVES)
def test_the_gradient_agrees_with_finite_differences(name, image_of_caption):
    scores, positives = batch(image_of_caption)
    loss = build(name)
    assert torch.autograd.gradcheck(lambda s: loss(s, positives), (scores,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_of_caption", WITH_NEGATIVES.values(), ids=WITH_NEGATIVES)
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
    """A higher score of one caption of an image does not increase the loss of the others."""
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
def test_perfect_scores_have_a_loss_near_0(name):
    scores, positives = batch(BATCHES["several captions per image"])
    loss = build(name)
    perfect = loss(10 * (2.0 * positives.double() - 1), positives).item()
    assert perfect == pytest.approx(0, abs=1e-6)
    assert loss(scores, positives).item() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_images_and_captions_does_not_matter(name):
    scores, positives = batch(BATCHES["one or three, unsorted"])
    images, captions = torch.randperm(scores.shape[0]), torch.randperm(scores.shape[1])
    loss = build(name)
    shuffled = loss(scores[images][:, captions], positives[images][:, captions])
    assert shuffled.item() == pytest.approx(loss(scores, positives).item(), rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_change_its_inputs(name):
    scores, positives = batch(BATCHES["several captions per image"])
    before = scores.detach().clone(), positives.clone()
    build(name)(scores, positives).backward()
    assert torch.equal(scores, before[0]) and torch.equal(positives, before[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_page_on_extending_lists_it_with_its_arguments(name):
    page = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
    stem = name.replace("-", "_")
    (row,) = [r for r in page.read_text(encoding="utf-8").splitlines() if r.startswith(f"| `{stem}` | `")]
    listed = [cell.split("=")[0] for cell in row.split("|")[2].split("`") if "=" in cell]
    parameters = inspect.signature(catalog.load("loss", name).build).parameters
    assert listed == [parameter for parameter in parameters if parameter not in catalog.GIVEN["loss"]]
