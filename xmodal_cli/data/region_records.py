"""The regions of one image as a file gives them, and as rows of a feature store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.data.npy_files import map_array
from xmodal_cli.errors import BadData
from xmodal_cli.regions import REGION_COLUMNS, SMALLEST_SIDE

WHOLE = (1.0, 1.0)  # the size of a picture whose boxes are shares of its sides already
OVERSHOOT = 0.02  # how far a box may reach beyond its picture, by rounding or for a picture whose size was rounded


@dataclass(frozen=True)
class Regions:
    """Regions of one image, in the file's order.

    ``boxes`` are x1, y1, x2, y2 in the unit of ``size``, which is (width, height), or ``WHOLE``
    where boxes are shares, which boxes that nowhere exceed 1 are in any case. Without boxes each region is
    the whole picture; without a size it must be found elsewhere. ``where`` names file and line for messages.
    """

    where: str
    features: np.ndarray  # (regions, dim)
    boxes: np.ndarray | None = None  # (regions, 4)
    size: tuple[float, float] | None = None
    scores: np.ndarray | None = None  # (regions,), 0 to 1
    classes: np.ndarray | None = None  # (regions,), whole numbers

    @property
    def lacks_size(self) -> bool:
        """Whether the boxes are in pixels of a picture whose size the file does not tell."""
        if self.boxes is None or self.size is not None or self.boxes.dtype.kind not in "fiu":
            return False
        return bool(np.any(self.boxes > 1 + OVERSHOOT))


def region_rows(regions: Regions, num_regions: int) -> np.ndarray:
    """(num_regions, dim + 7) float32: features and ``REGION_COLUMNS``, best score first, then rows of zeros.

    A score that the file does not give is 1, a class 0. Without scores the file's order stays.
    Raises BadData for regions that contradict themselves or hold numbers that are not finite.
    """
    features = _checked(regions, "features", regions.features, None)
    count = len(features)
    scores = _column(regions, "scores", regions.scores, 1.0)
    order = np.argsort(-scores, kind="stable")[:num_regions]
    corners = _corners(regions)
    rows = np.zeros((num_regions, features.shape[1] + len(REGION_COLUMNS)), dtype=np.float32)
    sides = corners[:, 2:] - corners[:, :2]
    columns = (corners, sides.prod(axis=1), scores, _column(regions, "classes", regions.classes, 0.0))
    rows[: len(order)] = np.column_stack([features, *columns]).reshape(count, -1)[order]
    return rows


def _corners(regions: Regions) -> np.ndarray:
    """(regions, 4) shares of the picture's sides, inside it and not narrower than ``SMALLEST_SIDE``."""
    if regions.boxes is None:
        return np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(regions.features), 1))
    boxes = _checked(regions, "boxes", regions.boxes, 4).astype(np.float64)
    width, height = regions.size if regions.size and boxes.max() > 1 else WHOLE
    if not (width > 0 and height > 0):
        raise bad(regions.where, f"its picture is {width:g} x {height:g}")
    corners = boxes / np.array([width, height, width, height])
    if np.any(corners[:, :2] > corners[:, 2:]):
        raise bad(regions.where, "a box ends before it begins; boxes are x1, y1, x2, y2")
    slack = OVERSHOOT + (0.0 if (width, height) == WHOLE else 1 / min(width, height))
    if corners.min() < -slack or corners.max() > 1 + slack:
        raise bad(regions.where, f"a box reaches beyond its picture of {width:g} x {height:g}")
    first = corners[:, :2].clip(0, 1 - SMALLEST_SIDE)
    return np.concatenate([first, np.maximum(corners[:, 2:].clip(0, 1), first + SMALLEST_SIDE)], axis=1)


def _column(regions: Regions, what: str, values: np.ndarray | None, otherwise: float) -> np.ndarray:
    count = len(regions.features)
    if values is None:
        return np.full(count, otherwise, dtype=np.float32)
    return _checked(regions, what, np.reshape(values, (-1, 1)), 1)[:, 0]


def _checked(regions: Regions, what: str, values: np.ndarray, width: int | None) -> np.ndarray:
    """The values as float32. Raises BadData unless they are finite numbers, a row for each region."""
    shape = " x ".join(str(side) for side in values.shape)
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != (width or values.shape[1]):
        raise bad(regions.where, f"its {what} are {values.dtype} {shape}")
    if not values.size:
        raise bad(regions.where, "it has no regions")
    if len(values) != len(regions.features):
        raise bad(regions.where, f"it has {len(regions.features)} regions and {len(values)} {what}")
    with np.errstate(over="ignore"):
        numbers: np.ndarray = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise bad(regions.where, f"its {what} are not all finite numbers")
    return numbers


def bad(where: str, reason: str) -> BadData:
    """The error for regions that cannot be used."""
    return BadData(f"{where}: {reason}", "make the file again, or leave the image out")


def map_region_array(file: Path) -> np.ndarray:
    """A ``.npy`` file as a read-only memory map. Raises BadData for one that is damaged or holds objects."""
    try:
        return map_array(file)
    except ValueError as error:
        raise bad(str(file), f"it cannot be read as an array: {error}") from error
