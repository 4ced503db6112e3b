"""``.npy`` files as read-only memory maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData


def map_array(file: Path) -> np.ndarray:
    """The array of ``file``, not yet read. Raises ValueError for a file that is missing, damaged or holds objects."""
    try:
        return np.lib.format.open_memmap(file, mode="r")  # refuses pickled objects and archives
    except Exception as error:  # numpy parses a damaged header as Python, which raises all kinds of errors
        raise ValueError(str(error)) from error


def map_features(file: Path) -> np.ndarray:
    """(images, dim) or (images, cells, dim) floats. Raises BadData."""
    try:
        mapped = map_array(file)
    except ValueError as error:
        raise BadData(f"{file} cannot be read as features: {error}", "it must be a .npy array of numbers") from error
    if mapped.ndim not in (2, 3) or mapped.dtype.kind != "f":
        shape = " x ".join(str(side) for side in mapped.shape)
        raise BadData(
            f"{file} holds {mapped.dtype} {shape}, not features",
            "it must be (images, dim) or (images, cells, dim) floats",
        )
    return mapped
