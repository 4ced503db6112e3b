"""The functions of ``array_library`` for torch tensors, on any device. ``like`` is an array of the same device."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

concat = torch.cat  # (arrays, axis)
stack = torch.stack  # (arrays, axis)
where = torch.where  # (mask, array or number, array or number)
broadcast_to = torch.broadcast_to  # (array, shape)
amax = torch.amax  # (array, axis)
is_nan = torch.isnan


def no_grad() -> contextlib.AbstractContextManager[None]:
    """A context without gradients."""
    return torch.no_grad()


def integers(values: object, like: Tensor) -> Tensor:
    """int64 array of ``values``: numbers, nested lists or an array."""
    return torch.as_tensor(values, dtype=torch.int64, device=like.device)


def zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """Zeros of the dtype of ``like``."""
    return like.new_zeros(tuple(shape))


def from_numpy(array: np.ndarray, like: Tensor) -> Tensor:
    """A NumPy array as an array of this library."""
    return torch.from_numpy(array).to(like.device)


def to_numpy(array: Tensor) -> np.ndarray:
    """An array of this library as a NumPy array."""
    values: np.ndarray = array.detach().float().cpu().numpy()
    return values


def copy(array: Tensor) -> Tensor:
    """A copy that can be changed."""
    return array.clone()


def to_floats(mask: Tensor, like: Tensor) -> Tensor:
    """0 and 1, of the dtype of ``like``."""
    return mask.to(like)


def to_integers(mask: Tensor) -> Tensor:
    """0 and 1, int64."""
    return mask.long()


def take(values: Tensor, indices: Tensor, axis: int) -> Tensor:
    """``values`` at ``indices`` along ``axis``; both have the same size along the other axes, or 1."""
    return torch.take_along_dim(values, indices, axis)


def top_indices(values: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` highest values of the last axis, highest first."""
    return values.topk(k).indices


def stable_argsort(values: Tensor, descending: bool = False) -> Tensor:
    """Indices that sort the last axis; equal values keep their order."""
    return values.argsort(dim=-1, descending=descending, stable=True)


def cumsum(values: Tensor) -> Tensor:
    """Cumulative sums along the last axis."""
    return values.cumsum(-1)


def argmax(values: Tensor) -> Tensor:
    """Index of the highest value of the last axis, which is kept, with size 1."""
    return values.argmax(-1, keepdim=True)


def softmax(values: Tensor) -> Tensor:
    """Softmax of the last axis."""
    return values.softmax(-1)


def log_softmax(values: Tensor) -> Tensor:
    """Logarithm of the softmax of the last axis."""
    return values.log_softmax(-1)


def logsumexp_first(values: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials over the first axis."""
    return values.logsumexp(0)


def add_at(target: Tensor, indices: Tensor, values: Tensor) -> Tensor:
    """A copy of ``target`` to which ``values`` are added at ``indices`` of the last axis, which may repeat."""
    return target.scatter_add(-1, indices, values)


def windows(values: Tensor, size: int) -> Tensor:
    """(..., length) -> (..., length - size + 1, size): all windows of ``size`` along the last axis."""
    return values.unfold(-1, size, 1)
