"""The mask of padded sequences, from their lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def length_mask(lengths: Tensor, longest: int) -> Tensor:
    """(items,) lengths -> (items, longest) bool on the same device, False at padding."""
    import torch

    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]
