"""Batch normalization over all processes is that of torch where one process has the whole batch."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from xmodal_cli.backbones.efficientnet_layers import NormAct
from xmodal_cli.training import synchronized_norms as module


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(5), (6, 5)),
        (nn.BatchNorm1d(5, affine=False, momentum=None), (6, 5)),
        (nn.BatchNorm2d(5), (3, 5, 2, 2)),
        (NormAct(5), (3, 5, 2, 2)),
    ],
)
def test_it_is_the_function_of_torch(norm: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "batch_norm", lambda *args, **kwargs: calls.append(1) or replaced(*args, **kwargs))
    torch.manual_seed(0)
    expected, actual = nn.Sequential(norm), nn.Sequential(deepcopy(norm))
    inputs, weights = 3 + 2 * torch.randn(shape), torch.randn(shape)
    results = []
    for model, context in ((expected, torch.enable_grad()), (actual, module.synchronized_norms(actual))):
        values = inputs.clone().requires_grad_()
        with context:
            for _ in range(2):
                output = model(values)
        (output * weights).sum().backward()
        results.append((output, values.grad, *model.buffers(), *(p.grad for p in model.parameters())))
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-5)
    assert len(calls) == 2
    torch.testing.assert_close(actual.eval()(inputs), expected.eval()(inputs))


replaced = module.batch_norm


def test_one_value_has_no_variance() -> None:
    norm = nn.BatchNorm1d(3)
    with module.synchronized_norms(norm), pytest.raises(ValueError, match="more than 1 value"):
        norm(torch.ones(1, 3))
