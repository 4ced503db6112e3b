"""The shards of a feature store: safetensors files with one fp16 or fp32 array and metadata.

A shard is written atomically and read as a memory map, without torch; a truncated file is detected by its size.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli import json_checksum
from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE
from xmodal_cli.errors import BadData
from xmodal_cli.file_errors import parse_json_object, reading
from xmodal_cli.paths import atomic_path

ARRAY = "values"
METADATA = "xmodal"
DTYPES = {"F16": "<f2", "F32": "<f4"}  # safetensors' names
_HINT = "delete it and extract the features again"


@dataclass(frozen=True)
class ShardMetadata:
    """The metadata of a shard: the image ids of its rows, and the unreadable images of its chunk.

    ``plan`` is a digest of the inputs of the shard: images, backbone, preprocessing. ``content`` is one of the bytes of
    the images instead of their paths and times (``image_digests.py``), empty if unknown. ``defects`` and ``decoding``
    are those of ``store.StoreSummary``. ``values_sha256`` is the checksum of the features, empty in older versions.
    """

    plan: str
    ids: tuple[str, ...]
    skipped: tuple[tuple[str, str, str, str, bool], ...]  # (image id, path, reason, category, may change)
    defects: tuple[tuple[str, str, str], ...] = ()
    decoding: str = DECODING
    values_sha256: str = ""
    content: str = ""


def shard_path(folder: Path, index: int) -> Path:
    """``features-00000.safetensors`` and so on."""
    return folder / f"features-{index:05d}.safetensors"


def write_shard(file: Path, rows: list[np.ndarray], metadata: ShardMetadata, dtype: str = "float16") -> None:
    """Write the features of one chunk of images as ``dtype``, float16 or float32. Raises StorageError."""
    from safetensors.numpy import save_file

    values = np.stack(rows).astype(dtype) if rows else np.zeros((0,), dtype=np.float16)
    metadata = replace(metadata, values_sha256=_sha256(values))
    with atomic_path(file) as draft:
        save_file({ARRAY: values}, draft, metadata={METADATA: json_checksum.to_text(asdict(metadata))})


def read_shard_metadata(file: Path) -> ShardMetadata:
    """Read the metadata of a shard. Raises BadData for a damaged, truncated or foreign file."""
    header, _ = _read_header(file)
    try:
        metadata = json_checksum.parse(header["__metadata__"][METADATA])
        skipped = tuple(_skipped(*entry) for entry in metadata["skipped"])
        defects = tuple((str(p), str(r), str(c)) for p, r, c in metadata.get("defects", ()))
        decoding = str(metadata.get("decoding", DECODING_BEFORE))
        sha256, content = str(metadata.get("values_sha256", "")), str(metadata.get("content", ""))
        return ShardMetadata(str(metadata["plan"]), tuple(metadata["ids"]), skipped, defects, decoding, sha256, content)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(file, "its metadata is missing or damaged") from error


def _skipped(
    image_id: str, path: str, reason: str, category: str = "damaged", may_change: bool = False
) -> tuple[str, str, str, str, bool]:
    """An unreadable image; shards of older versions have no category."""
    return str(image_id), str(path), str(reason), str(category), bool(may_change)


def map_shard(file: Path) -> np.ndarray:
    """The features as a read-only memory map, (rows, dim) or (rows, cells, dim). Raises BadData."""
    header, start = _read_header(file)
    shape, dtype = tuple(header[ARRAY]["shape"]), DTYPES[header[ARRAY]["dtype"]]
    with reading(file, _HINT, what="is an invalid feature file"):
        if math.prod(shape) == 0:
            return np.zeros((0, *shape[1:]), dtype=dtype)
        return np.memmap(file, dtype=dtype, mode="r", offset=start, shape=shape)


def verify_shard(file: Path) -> None:
    """Read the whole file and compare the checksum of its features. Raises BadData."""
    stored, values = read_shard_metadata(file).values_sha256, map_shard(file)
    if stored and stored != _sha256(values):
        raise _damaged(file, "the checksum of its features is wrong")


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).hexdigest()


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header, and the offset of the array in the file. Raises BadData."""
    try:
        with open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size - 8:
                raise _damaged(file, "it is truncated")
            header = parse_json_object(stream.read(length))
        entry = header[ARRAY]
        start, end = entry["data_offsets"]
        if not all(type(number) is int and number >= 0 for number in (start, end, *entry["shape"])):
            raise _damaged(file, "its array does not have the stated size")
        itemsize = np.dtype(DTYPES[entry["dtype"]]).itemsize
        if end - start != itemsize * math.prod(entry["shape"]):
            raise _damaged(file, "its array does not have the stated size")
        if size != 8 + length + end:
            raise _damaged(file, "it is truncated")
    except OSError as error:
        raise _damaged(file, error.strerror or str(error)) from error
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise _damaged(file, "it has no readable header") from error
    return header, 8 + length + start


def _damaged(file: Path, reason: str) -> BadData:
    return BadData(f"invalid feature file {file}: {reason}", _HINT)
