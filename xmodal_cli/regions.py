"""The layout of region features: one row per region, the features of the detector followed by ``REGION_COLUMNS``."""

from __future__ import annotations

# box corners and area relative to the width, height and area of the image, confidence of the detector, class index.
# A row with an area of 0 is padding.
REGION_COLUMNS = ("x1", "y1", "x2", "y2", "area", "score", "class")
NUM_REGIONS = 36  # rows per image, as in the fixed features of bottom-up attention; shorter lists are padded
SMALLEST_SIDE = 1e-3  # minimum width and height of a box, relative to the image, so that no area is 0
