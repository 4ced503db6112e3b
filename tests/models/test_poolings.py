"""Poolings against plain loops per item, with random values outside the mask; gradients by finite differences."""

from __future__ import annotations

import pytest
import torch
from helpers.naive_networks import attention_pooling, generalized_pooling, naive_positional_encoding
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.projection import Projection
from xmodal_cli.models.sequences import positional_encoding

DIM, LONGEST = 6, 9
LENGTHS = [9, 1, 4, 2, 4, 7]
NAMES = catalog.names("pooling")

NAIVE = {
    "attention": attention_pooling,
    "first": lambda pool, states: states[0],
    "gpo": generalized_pooling,
    "last": lambda pool, states: states[-1],
    "max": lambda pool, states: torch.tensor([max(column) for column in states.T.tolist()]),
    "mean": lambda pool, states: torch.tensor([sum(column) / len(column) for column in states.T.tolist()]),
}


def pooling(name: str, **args) -> nn.Module:
    """The pooling with weights large enough to affect the result."""
    torch.manual_seed(0)
    pool = catalog.build("pooling", name, args, dim=DIM).eval()
    for parameter in pool.parameters():
        nn.init.normal_(parameter, std=0.5)
    return pool


def sequences(holes: bool = False, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """States with large values outside the mask, and the mask; with ``holes``, it has gaps inside sequences."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(LONGEST)[None] < torch.tensor(LENGTHS)[:, None]
    if holes:
        mask[:, 1:] &= torch.rand(len(LENGTHS), LONGEST - 1, generator=generator) < 0.6
        assert ((mask[:, 1:] & ~mask[:, :-1]).any(1)).sum() >= 3
    states = torch.randn(len(LENGTHS), LONGEST, DIM, generator=generator, dtype=torch.float64)
    return torch.where(mask[..., None], states, 1e4 * states).to(dtype), mask


def test_every_pooling_has_a_naive_implementation():
    assert set(NAIVE) == set(NAMES)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_poolings_equal_the_naive_ones_per_item(name, holes):
    pool = pooling(name)
    states, mask = sequences(holes)
    with torch.inference_mode():
        actual = pool(states, mask)
        expected = [NAIVE[name](pool, item[inside]) for item, inside in zip(states, mask, strict=True)]
    assert actual.shape == (len(LENGTHS), DIM)
    torch.testing.assert_close(actual.double(), torch.stack(expected).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_amount_and_values_of_padding_change_nothing(name):
    pool = pooling(name)
    states, mask = sequences()
    padding = 1e4 * torch.randn(len(LENGTHS), 5, DIM)
    wider = torch.cat((torch.where(mask[..., None], states, -states), padding), dim=1)
    longer = torch.cat((mask, mask.new_zeros(len(mask), 5)), dim=1)
    torch.testing.assert_close(pool(wider, longer), pool(states, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_only_states_inside_the_mask_and_weights_get_gradients(name):
    pool = pooling(name)
    states, mask = sequences()
    states.requires_grad_()
    pool(states, mask).square().sum().backward()
    assert (states.grad[~mask] == 0).all()
    assert (states.grad.abs().sum((1, 2)) > 0).all()
    for parameter in pool.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_pass_gradcheck(name):
    pool = pooling(name)
    if name != "gpo":  # its recurrence stays in float32, and does not depend on the states
        pool.double()
    states, mask = sequences(dtype=torch.float64)
    states = torch.where(mask[..., None], states, 0).requires_grad_()
    tolerance = {"eps": 1e-3, "atol": 1e-3, "rtol": 1e-2} if name == "attention" else {}  # its scores are float32
    assert torch.autograd.gradcheck(lambda inputs: pool(inputs, mask), (states,), **tolerance)


@pytest.mark.parametrize("hidden_dim", [0, 4])
def test_gradients_of_the_projection_pass_gradcheck(hidden_dim):
    torch.manual_seed(0)
    project = Projection(DIM, 3, hidden_dim, 0.5).double().eval()
    vectors = torch.randn(2, 4, DIM, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(project, (vectors,))
    assert sum(p.numel() for p in project.parameters()) == 7 * 3 + (7 * 4 + 5 * 3 if hidden_dim else 0)


def test_the_projection_adds_an_mlp_to_a_linear_layer():
    torch.manual_seed(0)
    project = Projection(DIM, 3, 4, 0.5).double().eval()
    vectors = torch.randn(5, DIM, dtype=torch.float64)
    first, _, last = project.beside
    for vector, actual in zip(vectors, project(vectors), strict=True):
        rows = zip(first.weight, first.bias, strict=True)
        hidden = torch.stack([row @ vector + b if row @ vector + b > 0 else 0 * b for row, b in rows])
        mlp_output = last.weight @ hidden + last.bias
        torch.testing.assert_close(actual, project.linear.weight @ vector + project.linear.bias + mlp_output)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("first", "last")])
def test_poolings_other_than_first_and_last_do_not_depend_on_order(name):
    pool = pooling(name)
    states, _ = sequences()
    full_mask = torch.ones(states.shape[:2], dtype=torch.bool)
    order = torch.randperm(LONGEST)
    torch.testing.assert_close(pool(states[:, order], full_mask), pool(states, full_mask), rtol=1e-4, atol=1e-4)


def test_mean_and_max_are_special_cases_of_generalized_pooling():
    states, mask = sequences()
    pool = pooling("gpo")
    nn.init.zeros_(pool.score.weight)  # equal weights
    torch.testing.assert_close(pool(states, mask), pooling("mean")(states, mask))
    pool.weights = lambda lengths, longest: torch.eye(longest)[:1].expand(len(lengths), -1)
    torch.testing.assert_close(pool(states, mask), pooling("max")(states, mask))


def test_weights_of_generalized_pooling_sum_to_one_within_the_length():
    weights = pooling("gpo").weights(torch.tensor([1, 3, 8]), 10)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    for row, length in zip(weights, (1, 3, 8), strict=True):
        assert (row[:length] > 0).all()
        assert (row[length:] == 0).all()


def test_weights_of_generalized_pooling_depend_only_on_the_length():
    pool = pooling("gpo")
    together = pool.weights(torch.tensor([5, 2, 12]), 12)
    for row, length in zip(together, (5, 2, 12), strict=True):
        torch.testing.assert_close(row[:length], pool.weights(torch.tensor([length]), length)[0])


@pytest.mark.parametrize(
    ("args", "word"), [({"position_dim": 5}, "even"), ({"position_dim": 0}, "even"), ({"temperature": 0.0}, "above 0")]
)
def test_invalid_settings_of_generalized_pooling_raise(args, word):
    with pytest.raises(ConfigError, match=word):
        catalog.build("pooling", "gpo", args, dim=DIM)


@pytest.mark.parametrize(("length", "dim"), [(1, 2), (7, 8), (20, 64), (5, 7), (3, 1)])
def test_positional_encodings_equal_those_of_the_paper(length, dim):
    actual = positional_encoding(length, dim)
    torch.testing.assert_close(actual.double(), naive_positional_encoding(length, dim), rtol=1e-5, atol=1e-5)
