"""A loss of your own: write this file as ``xmodal_cli/losses/infonce.py`` and train with ``--set loss.name=infonce``.

InfoNCE (van den Oord et al., arXiv 1807.03748): each caption must pick its image out of the batch, and each image one
of its captions.
"""

from __future__ import annotations

import torch
from torch import Tensor


class InfoNCE:
    """(images, captions) scores and positives -> scalar."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, scores: Tensor, positives: Tensor) -> Tensor:
        """Minus the log-probability of the right ones, both ways."""
        logits = scores / self.temperature
        right = logits.masked_fill(~positives, float("-inf"))
        of_images = torch.logsumexp(logits, 1) - torch.logsumexp(right, 1)
        of_captions = torch.logsumexp(logits, 0) - torch.logsumexp(right, 0)
        return of_images.mean() + of_captions.mean()


def build(temperature: float = 0.07) -> InfoNCE:
    """Raises ValueError where ``temperature`` is not positive."""
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    return InfoNCE(temperature)
