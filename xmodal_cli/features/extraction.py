"""Pictures in files to features, in order: decoding in threads beside the forward pass, memory bounded.

Knows nothing of datasets and stores. Pillow frees the interpreter lock while it decodes and resizes,
and torch while it computes, so threads are enough and pictures are never copied between processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from xmodal_cli.errors import BadData
from xmodal_cli.types import ImageBackbone, ImageOpener

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = "its features are not finite numbers in this precision; try --precision fp32"


def encode_files(
    paths: Iterable[Path],
    backbone: ImageBackbone,
    opener: ImageOpener,
    device: str,
    dtype: torch.dtype,
    batch_size: int | None = None,
) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Yield (path, features) for each of ``paths`` in order, or (path, the reason it could not be read).

    Features are float32: (dim,), the mean over the backbone's crops, or the (cells, dim) of all of them. ``batch_size``
    counts pictures; by default it suits the device. At most three batches of pictures are in memory.
    """
    batch_size = batch_size or default_batch_size(device, backbone.meta.crops)
    backbone.to(device, dtype)
    waiting = iter(paths)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16), thread_name_prefix="decode") as pool:
        queue: deque[tuple[Path, Future[Tensor | str]]] = deque()

        def refill() -> None:
            for path in islice(waiting, 2 * batch_size - len(queue)):
                queue.append((path, pool.submit(_pixels, path, backbone, opener)))

        try:
            refill()
            while queue:
                batch = [queue.popleft() for _ in range(min(batch_size, len(queue)))]
                refill()
                decoded = [(path, future.result()) for path, future in batch]
                yield from _encode(decoded, backbone)
        finally:
            for _, future in queue:
                future.cancel()


def default_batch_size(device: str, crops: int = 1) -> int:
    """Pictures in one forward pass: few on a CPU, whose caches they should fit, many on a GPU."""
    return max(1, (16 if device == "cpu" else 256) // crops)


def _pixels(path: Path, backbone: ImageBackbone, opener: ImageOpener) -> Tensor | str:
    """(crops, 3, height, width) uint8, or the reason why not."""
    try:
        return backbone.preprocess(opener(path))
    except BadData as error:
        return error.message


def _encode(
    decoded: list[tuple[Path, Tensor | str]], backbone: ImageBackbone
) -> Iterator[tuple[Path, np.ndarray | str]]:
    pictures = [pixels for _, pixels in decoded if not isinstance(pixels, str)]
    rows = iter(_forward(pictures, backbone)) if pictures else iter(())
    for path, pixels in decoded:
        if isinstance(pixels, str):
            yield path, pixels
        else:
            row = next(rows)
            yield path, row if np.isfinite(row).all() else NOT_FINITE


def _forward(pictures: list[Tensor], backbone: ImageBackbone) -> np.ndarray:
    """Pixels of some pictures -> (pictures, dim), the mean over crops, or (pictures, crops * cells, dim) float32."""
    output = backbone.encode(torch.cat(pictures)).float()
    crops = len(pictures[0])
    if crops > 1:
        output = output.view(len(pictures), crops, *output.shape[1:])
        output = output.mean(dim=1) if output.ndim == 3 else output.flatten(1, 2)
    rows: np.ndarray = output.cpu().numpy()
    return rows
