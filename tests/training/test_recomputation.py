"""Recomputed activations: the gradients, random numbers and running statistics of a single pass, with less memory."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from xmodal_cli.errors import ConfigError
from xmodal_cli.training.recomputation import check_chunks, in_chunks, recompute_blocks


def network(norm: bool) -> nn.Sequential:
    torch.manual_seed(0)

    def block() -> nn.Module:
        layers = [nn.Linear(8, 32), nn.BatchNorm1d(32) if norm else nn.LayerNorm(32), nn.Dropout(0.3), nn.Linear(32, 8)]
        return Block(layers)

    return nn.Sequential(*(block() for _ in range(3)))


class Block(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers, self.calls = nn.ModuleList(layers), 0

    def forward(self, values: Tensor) -> Tensor:
        self.calls += 1
        start = values
        for layer in self.layers:
            values = layer(values)
        return start + values.relu()


def step(model: nn.Module, encode) -> tuple[int, list[Tensor]]:
    """Bytes of the saved activations; the output, the gradients, buffers and the state of the random numbers."""
    torch.manual_seed(1)
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.data_ptr()] = tensor.nbytes
        return tensor

    inputs = torch.randn(12, 8)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = encode(inputs)
        loss = (output @ output.T).logsumexp(1).sum()
    state = torch.get_rng_state()
    loss.backward()
    return sum(saved.values()), [
        output.detach(),
        *(p.grad for p in model.parameters()),
        *(b.clone() for n, b in model.named_buffers() if "num_batches" not in n),
        state,
    ]


def test_chunks_have_the_gradients_of_the_same_chunks_with_activations() -> None:
    models = [network(norm=False) for _ in range(2)]
    plain, few = models

    def with_activations(inputs: Tensor) -> Tensor:
        return torch.cat([plain(chunk) for chunk in torch.split(inputs, 5)])

    expected_bytes, expected = step(plain, with_activations)
    actual_bytes, actual = step(few, lambda inputs: in_chunks(few, 5, inputs))
    torch.testing.assert_close(actual, expected, atol=0, rtol=0)
    assert actual_bytes < expected_bytes / 4
    assert few[0].calls == 2 * plain[0].calls == 6


@pytest.mark.parametrize("size", [0, 12])
def test_one_chunk_is_not_recomputed(size: int) -> None:
    model = network(norm=False)
    step(model, lambda inputs: in_chunks(model, size, inputs))
    assert model[0].calls == 1


@pytest.mark.parametrize("norm", [False, True])
def test_recomputed_blocks_change_nothing_but_memory(norm: bool) -> None:
    plain, few = network(norm), network(norm)
    recompute_blocks(few)
    (expected_bytes, expected), (actual_bytes, actual) = step(plain, plain), step(few, few)
    torch.testing.assert_close(actual, expected, atol=0, rtol=0)
    assert actual_bytes < expected_bytes / 4
    assert [block.calls for block in few] == [2, 2, 2]


def test_frozen_blocks_are_not_recomputed_and_copies_are_independent() -> None:
    model = network(norm=False)
    model[0].requires_grad_(False)
    recompute_blocks(model)
    copy = deepcopy(model)
    step(copy, copy)
    assert [block.calls for block in copy] == [1, 2, 2]
    assert [block.calls for block in model] == [0, 0, 0]
    with torch.no_grad():
        model(torch.zeros(2, 8))
    assert [block.calls for block in model] == [1, 1, 1]


def test_batch_norm_that_is_trained_is_not_computed_in_chunks() -> None:
    with pytest.raises(ConfigError, match="chunk_size changes the batch normalization"):
        check_chunks(network(norm=True), 5)
    check_chunks(network(norm=True), 0)
    check_chunks(network(norm=False), 5)
    check_chunks(network(norm=True).requires_grad_(False), 5)
