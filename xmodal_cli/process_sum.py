"""Sums over the processes of a training, with gradients.

A loss that is a mean over the whole batch divides the sum over all processes by the count over all processes. Sums of
the own part alone would weight the captions of a process with few of them more.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum of ``values`` of all processes; ``values`` themselves in a training by one process.

    All processes must call it, in the same order and with the same shape. Gradients are summed too, and the gradients
    of weights are averaged after that: those of a loss that all processes have become the ones of one process.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return values
    total: Tensor = _build_sum().apply(values)
    return total


@functools.cache
def _build_sum() -> Any:
    """all_reduce as an autograd function, backward too; torch is imported only here."""
    import torch.distributed as dist
    from torch.autograd import Function

    def reduce(values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    class Sum(Function):
        @staticmethod
        def forward(context: Any, values: Tensor) -> Tensor:
            return reduce(values)

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return reduce(gradient)

    return Sum
