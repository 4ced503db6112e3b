"""The functions of ``array_library`` for NumPy arrays; ``torch_functions`` documents them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

concat = np.concatenate
stack = np.stack
where = np.where
broadcast_to = np.broadcast_to
amax = np.amax
take = np.take_along_axis
is_nan = np.isnan


def no_grad() -> contextlib.AbstractContextManager[None]:
    """See ``torch_functions``."""
    return contextlib.nullcontext()


def integers(values: object, like: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return np.asarray(values, np.int64)


def zeros(shape: Sequence[int], like: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return np.zeros(shape, like.dtype)


def from_numpy(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return array


def to_numpy(array: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return array


def copy(array: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return array.copy()


def to_floats(mask: np.ndarray, like: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return mask.astype(like.dtype)


def to_integers(mask: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return mask.astype(np.int64)


def top_indices(values: np.ndarray, k: int) -> np.ndarray:
    """See ``torch_functions``."""
    size = values.shape[-1]
    if k < size:
        candidates = np.sort(np.argpartition(values, size - k, axis=-1)[..., size - k :], axis=-1)
    else:
        candidates = np.broadcast_to(np.arange(size), values.shape)
    order = np.argsort(-np.take_along_axis(values, candidates, -1), axis=-1, kind="stable")
    return np.take_along_axis(candidates, order, -1)


def stable_argsort(values: np.ndarray, descending: bool = False) -> np.ndarray:
    """See ``torch_functions``."""
    return np.argsort(-values if descending else values, axis=-1, kind="stable")


def cumsum(values: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    return np.cumsum(values, axis=-1, dtype=np.float64).astype(values.dtype)  # torch sums in float64 on a CPU


def argmax(values: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    indices: np.ndarray = np.argmax(values, axis=-1)[..., None]
    return indices


def softmax(values: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    exponentials: np.ndarray = np.exp(values - values.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def log_softmax(values: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    shifted: np.ndarray = values - values.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def logsumexp_first(values: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    highest = np.maximum(values.max(axis=0), np.finfo(values.dtype).min)  # -inf - -inf is not a number
    with np.errstate(divide="ignore"):
        logarithms: np.ndarray = np.log(np.exp(values - highest).sum(axis=0)) + highest
        return logarithms


def add_at(target: np.ndarray, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
    """See ``torch_functions``."""
    rows, size = target.reshape(-1, target.shape[-1]).copy(), target.shape[-1]
    positions = np.arange(len(rows))[:, None] * size + indices.reshape(len(rows), -1)
    flat = rows.reshape(-1)
    np.add.at(flat, positions.ravel(), values.ravel())
    added: np.ndarray = flat.reshape(target.shape)
    return added


def windows(values: np.ndarray, size: int) -> np.ndarray:
    """See ``torch_functions``."""
    return np.lib.stride_tricks.sliding_window_view(values, size, axis=-1)
