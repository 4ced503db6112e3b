"""Pictures in files to features, in order: decoding beside the forward pass, memory bounded.

Knows nothing of datasets and stores. Pillow frees the interpreter lock while it decodes, and torch while it
resizes and computes, so threads are enough and pictures are never copied between processes.

On a CPU each core carries its own small batches all the way from file to features: cores that share one batch wait
for each other after every layer, and for whichever of them is decoding. On a GPU the cores decode ahead of it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData
from xmodal_cli.types import ImageBackbone, ImageOpener, Unreadable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


NOT_FINITE = "its features are not finite numbers in this precision; try --precision fp32"
MAX_WORKERS = 8  # batches on their way on a CPU, 0.1 to 0.3 GB each; more cores than that share them

Embed = Callable[[np.ndarray], np.ndarray]  # (pictures, ...) features -> (pictures, embed_dim) float32
Answer = tuple[Path, np.ndarray | Unreadable]


def encode_files(
    paths: Iterable[Path],
    backbone: ImageBackbone,
    opener: ImageOpener,
    compute: Compute,
    batch_size: int | None = None,
    embed: Embed | None = None,
) -> Iterator[Answer]:
    """Yield (path, features) for each of ``paths`` in order, or (path, Unreadable).

    Features are float32: (dim,), the mean over the backbone's crops, or the (cells, dim) of all of them; or what
    ``embed`` makes of them. ``compute`` is resolved. ``batch_size`` counts pictures; by default it suits the device.
    ``paths`` are taken as they are needed. In memory are at most three batches of pictures on a GPU, on a CPU one for
    each core and one of answers.
    """
    batches = _batches(paths, batch_size or default_batch_size(compute.device, backbone.meta.crops))
    backbone.to(compute.device, compute.dtype)
    if compute.device == "cpu":
        yield from _core_by_core(batches, backbone, opener, embed)
    else:
        yield from _decoded_ahead(batches, backbone, opener, embed)


def default_batch_size(device: str, crops: int = 1) -> int:
    """Pictures in one forward pass: few on a CPU, whose caches they should fit, many on a GPU."""
    return max(1, (8 if device == "cpu" else 256) // crops)


def _core_by_core(
    batches: Iterator[list[Path]], backbone: ImageBackbone, opener: ImageOpener, embed: Embed | None
) -> Iterator[Answer]:
    threads = torch.get_num_threads()
    workers = min(threads, MAX_WORKERS)

    def carry(batch: list[Path]) -> list[Answer]:
        return _encode([(path, _pixels(path, backbone, opener)) for path in batch], backbone, embed)

    try:
        with _pool(workers, threads // workers) as pool:
            for answers in _ahead(pool, carry, batches, workers + 1):
                yield from answers
    finally:
        torch.set_num_threads(threads)  # torch keeps the workers' number for threads to come


def _decoded_ahead(
    batches: Iterator[list[Path]], backbone: ImageBackbone, opener: ImageOpener, embed: Embed | None
) -> Iterator[Answer]:
    decode = partial(_pixels, backbone=backbone, opener=opener)
    threads = torch.get_num_threads()
    try:
        with _pool(min(os.cpu_count() or 1, 16), 1) as pool:

            def submit(batch: list[Path]) -> list[tuple[Path, Future[Tensor | Unreadable]]]:
                return [(path, pool.submit(decode, path)) for path in batch]

            queue = deque(map(submit, islice(batches, 2)))
            try:
                while queue:
                    batch = queue.popleft()
                    queue.extend(map(submit, islice(batches, 1)))
                    yield from _encode([(path, future.result()) for path, future in batch], backbone, embed)
            finally:
                for _, future in (pair for batch in queue for pair in batch):
                    future.cancel()
    finally:
        torch.set_num_threads(threads)


def _batches(paths: Iterable[Path], size: int) -> Iterator[list[Path]]:
    waiting = iter(paths)
    while batch := list(islice(waiting, size)):
        yield batch


def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Workers in each of which torch computes with ``threads`` threads."""
    return ThreadPoolExecutor(workers, "decode", torch.set_num_threads, (threads,))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[list[Path]], list[Answer]], batches: Iterator[list[Path]], num: int
) -> Iterator[list[Answer]]:
    """The answers of ``work`` in order; ``num`` batches are being worked on, or done and waiting to be taken."""
    queue = deque(pool.submit(work, batch) for batch in islice(batches, num))
    try:
        while queue:
            answers = queue.popleft().result()
            queue.extend(pool.submit(work, batch) for batch in islice(batches, 1))
            yield answers
    finally:
        for future in queue:
            future.cancel()


def _pixels(path: Path, backbone: ImageBackbone, opener: ImageOpener) -> Tensor | Unreadable:
    """(crops, 3, height, width) uint8."""
    try:
        return backbone.preprocess(opener(path))
    except BadData as error:
        return Unreadable(path, error.message)


def _encode(
    decoded: list[tuple[Path, Tensor | Unreadable]], backbone: ImageBackbone, embed: Embed | None
) -> list[Answer]:
    pictures = [pixels for _, pixels in decoded if not isinstance(pixels, Unreadable)]
    features = _forward(pictures, backbone) if pictures else np.empty((0, 0), np.float32)
    finite = [bool(np.isfinite(row).all()) for row in features]
    rows = iter(features if embed is None or not pictures else embed(features))
    encoded = zip(rows, finite, strict=True)

    def answer(path: Path, pixels: Tensor | Unreadable) -> np.ndarray | Unreadable:
        if isinstance(pixels, Unreadable):
            return pixels
        row, is_finite = next(encoded)
        return row if is_finite else Unreadable(path, NOT_FINITE)

    return [(path, answer(path, pixels)) for path, pixels in decoded]


def _forward(pictures: list[Tensor], backbone: ImageBackbone) -> np.ndarray:
    """Pixels of some pictures -> (pictures, dim), the mean over crops, or (pictures, crops * cells, dim) float32."""
    output = backbone.encode(torch.cat(pictures)).float()
    crops = len(pictures[0])
    if crops > 1:
        output = output.view(len(pictures), crops, *output.shape[1:])
        output = output.mean(dim=1) if output.ndim == 3 else output.flatten(1, 2)
    rows: np.ndarray = output.cpu().numpy()
    return rows


def opener_for(backbone: ImageBackbone) -> ImageOpener:
    """Opens pictures at a scale that is enough for the backbone.

    Twice its side: a large JPEG is decoded several times faster, and features stay at cosine 0.999
    of those of the full decode, where its side alone would give 0.997.
    """
    from xmodal_cli.data.images import open_image

    return partial(open_image, max_side=2 * int(backbone.meta.preprocessing["side"]))
