"""The layout of region features: one row per region, the features of the detector followed by ``REGION_COLUMNS``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# box corners and area relative to the width, height and area of the image, confidence of the detector, class index.
# A row with an area of 0 is padding.
REGION_COLUMNS = ("x1", "y1", "x2", "y2", "area", "score", "class")
NUM_REGIONS = 36  # rows per image, as in the fixed features of bottom-up attention; shorter lists are padded
# How detectors select regions; see ``backbones.detector``.
NUM_PROPOSALS = 300
MIN_REGIONS = 10
MIN_SCORE = 0.2
MAX_OVERLAP = 0.3  # IoU of two boxes of one class
# The record of it in ``FeatureMeta.preprocessing``; features with another record are extracted again.
SELECTION = {
    "selection": "per class",
    "boxes": "proposals",
    "regions": NUM_REGIONS,
    "min_regions": MIN_REGIONS,
    "min_score": MIN_SCORE,
    "proposals": NUM_PROPOSALS,
    "overlap": MAX_OVERLAP,
}
SMALLEST_SIDE = 1e-3  # minimum width and height of a box, relative to the image, so that no area is 0


def region_corners(regions: np.ndarray) -> np.ndarray:
    """(images, regions, dim) region features -> (images, regions, 4): ``x1 y1 x2 y2``, all 0 for padding."""
    columns = regions[..., -len(REGION_COLUMNS) :]
    corners: np.ndarray = columns[..., :4] * (columns[..., 4:5] > 0)
    return corners
