"""Captions laid out image by image, so that what belongs to an image is computed and held once for all its captions."""

from __future__ import annotations

import torch
from torch import Tensor


def by_image(image_of_caption: Tensor, num_images: int) -> tuple[Tensor, Tensor]:
    """(captions,) image numbers -> (images, rows) caption numbers, and (captions,) places in that table, row by row.

    ``rows`` is the most captions of any image; free places hold caption 0, and no caption's place points there.
    """
    order = image_of_caption.argsort(stable=True)
    counts = torch.bincount(image_of_caption, minlength=num_images)
    starts = counts.cumsum(0) - counts
    sorted_images = image_of_caption[order]
    rows = int(counts.max())
    spots = sorted_images * rows + torch.arange(len(order), device=order.device) - starts[sorted_images]
    table = torch.zeros(num_images * rows, dtype=torch.int64, device=order.device)
    table[spots] = order
    places = torch.empty_like(order)
    places[order] = spots
    return table.view(num_images, rows), places
