"""Image features of each kind: one vector, grid cells, regions with boxes and padding."""

from __future__ import annotations

import torch
from torch import Tensor

from xmodal_cli.regions import REGION_COLUMNS

DEPTH = EMBED_DIM = 8  # equal, as the identity encoder requires
CELLS = {"regions": 7, "grid": 9}
COUNTS = [7, 1, 4, 6, 2]  # regions of each image
NUM_COLUMNS = len(REGION_COLUMNS)


def regions(counts: list[int], seed: int = 0, longest: int = CELLS["regions"]) -> Tensor:
    """(images, longest, 8 + 7): boxes inside the image, then rows of zeros."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.zeros(len(counts), longest, DEPTH + NUM_COLUMNS)
    for image, count in enumerate(counts):
        corners = torch.rand(count, 2, 2, generator=generator).sort(1).values  # (regions, 2 corners, x and y)
        area = (corners[:, 1] - corners[:, 0]).prod(1, keepdim=True)
        score_and_class = torch.rand(count, 2, generator=generator)
        vectors = torch.randn(count, DEPTH, generator=generator)
        rows[image, :count] = torch.cat((vectors, corners.flatten(1), area, score_and_class), dim=1)
    return rows


def images(kind: str, seed: int = 0, num: int = len(COUNTS)) -> Tensor:
    if kind == "regions":
        return regions(COUNTS[:num], seed)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, *((9,) if kind == "grid" else ()), DEPTH, generator=generator)
