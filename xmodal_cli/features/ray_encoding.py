"""Encodes images by the workers of a Ray cluster (``ray_mapping.py``): the vectors of one process, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.features.ray_mapping import ImageMapping, MapBlock, Packed, map_on_ray
from xmodal_cli.types import Defect, ImageVectors, Unreadable

if TYPE_CHECKING:
    from xmodal_cli.data.images import ImageReader

BuildEncoder = Callable[["ImageReader"], ImageVectors]  # runs once in each worker, and is pickled by Ray


def encode_on_ray(
    build: BuildEncoder, paths: Iterable[Path], batch_size: int, defects: list[Defect], address: str = ""
) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
    """Yield (path, vector) or (path, Unreadable) for each of ``paths``, in order, as the encoder of ``build`` does.

    The defects of readable images are added to ``defects``. ``paths`` are read as they are needed. Raises Unavailable,
    and the errors of the encoder.
    """
    return map_on_ray(ImageMapping(partial(_build, build), _pack, _unpack), paths, batch_size, defects, address)


def _build(build: BuildEncoder, reader: ImageReader) -> MapBlock:
    encode = build(reader)
    return lambda paths, _: encode(paths)


def _pack(vectors: list[np.ndarray]) -> Packed:
    return {"vectors": np.stack(vectors)} if vectors else {}, None


def _unpack(packed: Packed) -> Iterable[np.ndarray]:
    arrays, _ = packed
    return arrays.get("vectors", ())
