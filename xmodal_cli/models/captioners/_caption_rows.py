"""Captions grouped by image, so that tensors of an image are computed and stored once for all its captions."""

from __future__ import annotations

import torch
from torch import Tensor


def group_by_image(image_of_caption: Tensor, num_images: int) -> tuple[Tensor, Tensor]:
    """(captions,) image indices -> (images, rows) caption indices, and (captions,) positions in that table, flat.

    ``rows`` is the largest number of captions of an image; unused entries are 0, and no position points to them.
    """
    order = image_of_caption.argsort(stable=True)
    counts = torch.bincount(image_of_caption, minlength=num_images)
    starts = counts.cumsum(0) - counts
    sorted_images = image_of_caption[order]
    rows = int(counts.max())
    sorted_positions = sorted_images * rows + torch.arange(len(order), device=order.device) - starts[sorted_images]
    table = torch.zeros(num_images * rows, dtype=torch.int64, device=order.device)
    table[sorted_positions] = order
    positions = torch.empty_like(order)
    positions[order] = sorted_positions
    return table.view(num_images, rows), positions
