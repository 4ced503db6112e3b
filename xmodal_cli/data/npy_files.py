"""``.npy`` files as read-only memory maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData


def map_array(file: Path) -> np.ndarray:
    """A memory map of ``file``. Raises ValueError for a file that is missing, damaged or has pickled objects."""
    try:
        return np.lib.format.open_memmap(file, mode="r")  # rejects pickled objects and archives
    except Exception as error:  # NumPy parses the header as Python, so a damaged one raises errors of any type
        raise ValueError(str(error)) from error


def map_features(file: Path) -> np.ndarray:
    """A memory map of (images, dim) or (images, cells, dim) floats, neither cells nor dim 0. Raises BadData."""
    try:
        mapped = map_array(file)
    except ValueError as error:
        raise BadData(f"{file} cannot be read as features: {error}", "it must be a .npy array of numbers") from error
    if mapped.ndim not in (2, 3) or mapped.dtype.kind != "f" or 0 in mapped.shape[1:]:
        shape = " x ".join(str(side) for side in mapped.shape)
        raise BadData(
            f"{file} is an array of {mapped.dtype} {shape}, not features",
            "it must be (images, dim) or (images, cells, dim) floats",
        )
    return mapped
