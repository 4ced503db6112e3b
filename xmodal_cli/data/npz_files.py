"""Arrays of ``.npz`` archives, checked before memory is allocated for them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

_MAX_RATIO = 100  # of an array to its compressed size; floats of a model shrink to no less than half
_SMALL = 100_000_000  # bytes of an array that may be compressed by any ratio


def read_npz(file: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The arrays ``names`` and, if they exist, ``optional`` of an archive, by name; they are read only.

    Raises ValueError for a damaged archive, objects, or an array that is larger than its data, KeyError for a missing
    array, OSError.
    """
    with zipfile.ZipFile(file) as archive:
        stored = {info.filename: info for info in archive.infolist()}
        missing = [name for name in names if f"{name}.npy" not in stored]
        if missing:
            raise KeyError(missing[0])
        return {
            name: _read_member(archive, stored[f"{name}.npy"], name)
            for name in (*names, *optional)
            if f"{name}.npy" in stored
        }


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    if info.file_size > max(_SMALL, _MAX_RATIO * info.compress_size):
        raise ValueError(f"the array {name!r} is compressed by more than a factor of {_MAX_RATIO}")
    with archive.open(info) as stream:
        shape, is_fortran, dtype = _read_header(stream, name)
        size = math.prod(shape) * dtype.itemsize
        is_array = not dtype.hasobject and size <= info.file_size
        data = stream.read() if is_array else b""
    if not is_array or len(data) != size:
        raise ValueError(f"the array {name!r} has the shape {shape} of {dtype}, which is not that of its data")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Raises ValueError; NumPy parses the header as Python, so a damaged one raises errors of any type."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(stream)
    except Exception as error:
        raise ValueError(f"the array {name!r} has no readable header") from error
    if any(side < 0 for side in shape):
        raise ValueError(f"the array {name!r} has the shape {shape}")
    return shape, is_fortran, dtype
