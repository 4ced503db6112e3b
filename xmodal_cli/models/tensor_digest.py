"""The sha256 of tensors by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 in hex of the names, types, shapes and values of contiguous tensors on the CPU, in any order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.view(-1).view(_bytes_type()).numpy().data)
    return digest.hexdigest()


def _bytes_type() -> Any:
    import torch

    return torch.uint8
