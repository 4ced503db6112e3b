"""The regions of one image, and their conversion to rows of a feature store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.data.npy_files import map_array
from xmodal_cli.errors import BadData
from xmodal_cli.regions import REGION_COLUMNS, SMALLEST_SIDE

UNIT_SIZE = (1.0, 1.0)  # (width, height) for boxes that are fractions of the image's sides
MAX_OVERSHOOT = 0.02  # largest distance of a box from its image, as a fraction of the side; coordinates are rounded


@dataclass(frozen=True)
class Regions:
    """Regions of one image, in the file's order.

    ``boxes`` are x1, y1, x2, y2 in the unit of ``size``, (width, height), or ``UNIT_SIZE`` if they are fractions of the
    image's sides; boxes without a value above 1 always are. Without boxes each region is the full image. Without
    ``size`` the caller supplies the image's size. ``where`` is the file and line for messages.
    """

    where: str
    features: np.ndarray  # (regions, dim)
    boxes: np.ndarray | None = None  # (regions, 4)
    size: tuple[float, float] | None = None
    scores: np.ndarray | None = None  # (regions,), 0 to 1
    classes: np.ndarray | None = None  # (regions,), integers

    @property
    def lacks_size(self) -> bool:
        """Whether the boxes are in pixels and the image's size is unknown."""
        if self.boxes is None or self.size is not None or self.boxes.dtype.kind not in "fiu":
            return False
        return bool(np.any(self.boxes > 1 + MAX_OVERSHOOT))


def region_rows(regions: Regions, num_regions: int) -> np.ndarray:
    """(num_regions, dim + 7) float32: features and ``REGION_COLUMNS``, highest score first, padded with zeros.

    Missing scores are 1, missing classes 0. Without scores the order of the file is kept.
    Raises BadData for inconsistent shapes, invalid boxes and values that are not finite.
    """
    features = _validate(regions, "features", regions.features, None)
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
    """(regions, 4) fractions of the image's sides, clipped to it, each side at least ``SMALLEST_SIDE``."""
    if regions.boxes is None:
        return np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(regions.features), 1))
    boxes = _validate(regions, "boxes", regions.boxes, 4).astype(np.float64)
    width, height = regions.size if regions.size and boxes.max() > 1 else UNIT_SIZE
    if not (width > 0 and height > 0):
        raise region_error(regions.where, f"its image size is {width:g} x {height:g}")
    corners = boxes / np.array([width, height, width, height])
    if np.any(corners[:, :2] > corners[:, 2:]):
        raise region_error(regions.where, "a box has x1 > x2 or y1 > y2; boxes are x1, y1, x2, y2")
    tolerance = MAX_OVERSHOOT + (0.0 if (width, height) == UNIT_SIZE else 1 / min(width, height))
    if corners.min() < -tolerance or corners.max() > 1 + tolerance:
        raise region_error(regions.where, f"a box is outside its image of {width:g} x {height:g}")
    first = corners[:, :2].clip(0, 1 - SMALLEST_SIDE)
    return np.concatenate([first, np.maximum(corners[:, 2:].clip(0, 1), first + SMALLEST_SIDE)], axis=1)


def _column(regions: Regions, field: str, values: np.ndarray | None, default: float) -> np.ndarray:
    """(regions,) float32, ``default`` for missing values."""
    count = len(regions.features)
    if values is None:
        return np.full(count, default, dtype=np.float32)
    return _validate(regions, field, np.reshape(values, (-1, 1)), 1)[:, 0]


def _validate(regions: Regions, field: str, values: np.ndarray, width: int | None) -> np.ndarray:
    """The values as float32. Raises BadData unless they are finite numbers, one row per region."""
    shape = " x ".join(str(side) for side in values.shape)
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != (width or values.shape[1]):
        raise region_error(regions.where, f"its {field} are {values.dtype} {shape}")
    if not values.size:
        raise region_error(regions.where, "it has no regions")
    if len(values) != len(regions.features):
        raise region_error(regions.where, f"it has {len(regions.features)} regions and {len(values)} {field}")
    with np.errstate(over="ignore"):
        numbers: np.ndarray = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise region_error(regions.where, f"its {field} are not all finite numbers")
    return numbers


def region_error(where: str, reason: str) -> BadData:
    """The error for invalid regions; ``where`` is the file and line."""
    return BadData(f"{where}: {reason}", "recreate the file, or remove the image from the dataset")


def map_region_array(file: Path) -> np.ndarray:
    """A read-only memory map of a ``.npy`` file. Raises BadData if it is damaged or has pickled objects."""
    try:
        return map_array(file)
    except ValueError as error:
        raise region_error(str(file), f"it cannot be read as an array: {error}") from error
