"""Stochastic attention (Xu et al., arXiv 1502.03044, section 4.1): cells sampled from the attention weights.

For half of the images the expected weights are used instead of a sample, which reduces the variance of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from xmodal_cli.types import SampledCells

EXPECTED_PROB = 0.5  # probability that an image uses the expected weights
TINY = 1e-30


@dataclass(frozen=True)
class CellSample:
    """``applied`` (images, rows, cells): one-hot, or the expected weights; the rest (images, rows)."""

    applied: Tensor
    log_probs: Tensor
    entropy: Tensor


def choose_images(num_images: int, expected_prob: float, device: torch.device) -> Tensor:
    """(images,) bool: whether the cells of an image are sampled; the others use the expected weights."""
    return torch.rand(num_images, device=device) >= expected_prob


def sample_cells(weights: Tensor, is_sampled: Tensor) -> CellSample:
    """Sample one cell per row from ``weights`` (images, rows, cells) float32, for the images of ``is_sampled``."""
    indices = torch.multinomial(weights.detach().flatten(0, 1), 1).view(weights.shape[:2])
    one_hot = functional.one_hot(indices, weights.shape[-1]).to(weights)
    applied = torch.where(is_sampled[:, None, None], one_hot, weights)
    log_weights = weights.clamp(min=TINY).log()  # masked cells have weight 0
    log_probs = log_weights.gather(-1, indices[..., None]).squeeze(-1) * is_sampled[:, None]
    return CellSample(applied, log_probs, -(weights * log_weights).sum(-1))


def stack(samples: Sequence[CellSample], is_sampled: Tensor, positions: Tensor) -> SampledCells:
    """The samples of all positions, by caption; ``positions`` is that of ``group_by_image``."""
    log_probs, entropy = (
        torch.stack(parts, dim=-1).flatten(0, 1)[positions]
        for parts in ([s.log_probs for s in samples], [s.entropy for s in samples])
    )
    rows = samples[0].log_probs.shape[1]
    return SampledCells(log_probs, entropy, is_sampled.repeat_interleave(rows)[positions])
