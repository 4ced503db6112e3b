"""One file of a feature store: a safetensors file with one fp16 array and a note of what is in it.

Written in one atomic step and read as a memory map; a file cut short is noticed by its size. torch
is not needed to read one.
"""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.paths import atomic_path

ARRAY = "values"
NOTE = "xmodal"


@dataclass(frozen=True)
class ShardNote:
    """What a shard holds: features of ``ids`` in row order, and the pictures of its run that could not be read.

    ``plan`` is a digest of what the shard was to be made of: pictures, backbone, preprocessing.
    """

    plan: str
    ids: tuple[str, ...]
    skipped: tuple[tuple[str, str, str], ...]  # (image id, path, reason)


def shard_path(folder: Path, number: int) -> Path:
    """``features-00000.safetensors`` and so on."""
    return folder / f"features-{number:05d}.safetensors"


def write_shard(file: Path, rows: list[np.ndarray], note: ShardNote) -> None:
    """Write the features of one run of pictures. Raises StorageError."""
    from safetensors.numpy import save_file

    values = np.stack(rows).astype(np.float16) if rows else np.zeros((0,), dtype=np.float16)
    with atomic_path(file) as draft:
        save_file({ARRAY: values}, draft, metadata={NOTE: json.dumps(asdict(note))})


def read_note(file: Path) -> ShardNote:
    """What a shard says it holds. Raises BadData for a file that is damaged, foreign or cut short."""
    header, _ = _read_header(file)
    try:
        note = json.loads(header["__metadata__"][NOTE])
        skipped = tuple((str(i), str(p), str(r)) for i, p, r in note["skipped"])
        return ShardNote(str(note["plan"]), tuple(note["ids"]), skipped)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(file, "it carries no note of what is in it") from error


def map_shard(file: Path) -> np.ndarray:
    """The features as a read-only memory map, (rows, dim) or (rows, cells, dim) fp16. Raises BadData."""
    header, start = _read_header(file)
    shape = tuple(header[ARRAY]["shape"])
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype=np.float16)
    return np.memmap(file, dtype="<f2", mode="r", offset=start, shape=shape)


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header as a table, and where the array starts in the file."""
    try:
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size - 8:
                raise _damaged(file, "it is cut short")
            header: dict[str, Any] = json.loads(stream.read(length))
        entry = header[ARRAY]
        start, end = entry["data_offsets"]
        if entry["dtype"] != "F16" or end - start != 2 * math.prod(entry["shape"]):
            raise _damaged(file, "its array is not of the stated size")
        if size != 8 + length + end:
            raise _damaged(file, "it is cut short")
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise _damaged(file, "it has no readable header") from error
    return header, 8 + length + start


def _damaged(file: Path, reason: str) -> BadData:
    return BadData(f"the feature file {file} cannot be used: {reason}", "remove it and run `xmodal features` again")
