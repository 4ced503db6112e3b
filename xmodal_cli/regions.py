"""The layout of region features: the detector's features, then ``REGION_COLUMNS``, one row per region."""

from __future__ import annotations

# corners and area as fractions of the image's width, height and area; the detector's confidence; its class.
# A row whose area is 0 is padding.
REGION_COLUMNS = ("x1", "y1", "x2", "y2", "area", "score", "class")
NUM_REGIONS = 36  # rows per image, as many as bottom-up attention's fixed set; fewer regions are padded
SMALLEST_SIDE = 1e-3  # no box is narrower, as a fraction of the image's side: an area of 0 means padding
