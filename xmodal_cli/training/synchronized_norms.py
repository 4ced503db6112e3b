"""Batch normalization with the mean and the variance of the whole batch, where processes have parts of it.

``nn.SyncBatchNorm`` needs a GPU, and replaces modules with others, which does not work for layers that extend batch
normalization. A mode replaces the function that all of them call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from xmodal_cli.process_sum import sum_over_processes


def synchronized_norms(model: nn.Module) -> contextlib.AbstractContextManager[object]:
    """A context in which the batch normalization of ``model`` uses the whole batch; without cost if it has none."""
    has_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    return _BatchNormMode(batch_norm) if has_norms else contextlib.nullcontext()


def recomputed_norms() -> contextlib.AbstractContextManager[object]:
    """A context for a second forward pass: running means and variances stay the same."""
    return _BatchNormMode(_without_statistics)


def batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``functional.batch_norm`` of (items, channels, ...) over the items of all processes."""
    if not training:
        return functional.batch_norm(inputs, running_mean, running_var, weight, bias, False, momentum, eps)
    values = inputs.float()
    others = [axis for axis in range(values.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
    count = sum_over_processes(values.new_tensor(values.numel() / max(1, values.shape[1])))
    if count <= 1:
        raise ValueError("Expected more than 1 value per channel when training")  # as functional.batch_norm
    mean = sum_over_processes(values.sum(others)) / count
    centered = values - mean.view(shape)
    variance = sum_over_processes(centered.square().sum(others)) / count
    _update(running_mean, mean, momentum)
    _update(running_var, variance * count / (count - 1), momentum)
    scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
    normed = centered * scale.view(shape)
    return (normed if bias is None else normed + bias.view(shape)).to(inputs.dtype)


@torch.no_grad()
def _update(running: Tensor | None, value: Tensor, momentum: float) -> None:
    if running is not None:
        running += momentum * (value - running)


def _without_statistics(
    inputs: Tensor, running_mean: Tensor | None, running_var: Tensor | None, training: bool = False, **settings: Any
) -> Tensor:
    if not training:
        return functional.batch_norm(inputs, running_mean, running_var, training=False, **settings)
    function = batch_norm if dist.is_available() and dist.is_initialized() else functional.batch_norm
    mean, var = (None if running is None else running.clone() for running in (running_mean, running_var))
    return function(inputs, mean, var, training=True, **settings)


class _BatchNormMode(TorchFunctionMode):
    """Calls of ``functional.batch_norm`` are replaced."""

    def __init__(self, replacement: Callable[..., Tensor]) -> None:
        super().__init__()
        self._replacement = replacement

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        call = self._replacement if function is functional.batch_norm else function
        return call(*args, **(kwargs or {}))
