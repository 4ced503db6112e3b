"""Image files to features, in order: decoding in parallel with the forward pass, in bounded memory.

Pillow releases the GIL while it decodes, and torch while it resizes and computes, so threads are enough and images are
not copied between processes.

On a CPU each worker thread decodes and encodes its own small batches: threads that share one batch wait for each other
after every layer, and for the slowest decoder. On a GPU the threads decode the next batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodal_cli.batch_size import BatchSize
from xmodal_cli.device import Compute, cpu_count, num_threads, set_num_threads
from xmodal_cli.errors import BadData, Category, ConfigError
from xmodal_cli.memory import available_bytes, format_bytes
from xmodal_cli.types import FeatureMeta, ImageBackbone, ImageOpener, Unreadable

if TYPE_CHECKING:
    from xmodal_cli.data.images import ImageReader


NOT_FINITE = "its features are not finite numbers in this precision; try --precision fp32"
ACTIVATIONS = 40  # of a convolutional network at once, in sizes of its float32 input
MAX_WORKERS = 8  # CPU batches in progress, 0.1 to 0.3 GB each; further cores are shared among them

Embed = Callable[[np.ndarray], np.ndarray]  # (images, ...) features -> (images, embed_dim) float32
FileFeatures = tuple[Path, np.ndarray | Unreadable]
EncodeImages = Callable[[list[Any]], Iterator[tuple[np.ndarray, bool]]]  # features, and whether they are finite


def encode_files(
    paths: Iterable[Path],
    backbone: ImageBackbone,
    opener: ImageOpener,
    compute: Compute,
    batch_size: int | None = None,
    embed: Embed | None = None,
) -> Iterator[FileFeatures]:
    """Yield (path, features) or (path, Unreadable) for each of ``paths``, in order.

    Features are float32: (dim,), the mean over the crops of the backbone, or (cells, dim) of all crops; or the output
    of ``embed``. ``compute`` is resolved. ``batch_size`` is in images; the default depends on the device. ``paths`` are
    read as they are needed. At most three batches are in memory on a GPU, on a CPU one per worker and one of results.
    """
    size = BatchSize(batch_size or default_batch_size(compute.device, backbone.meta.crops), "images")
    batches = batches_of(paths, size.size)
    backbone.to(compute)
    encode_in_batches = _encode_in_workers if compute.device == "cpu" else _encode_with_prefetch
    yield from encode_in_batches(batches, backbone, opener, partial(_encode_images, backbone, embed, size))


def default_batch_size(device: str, crops: int = 1) -> int:
    """Images per forward pass: few on a CPU, to fit its caches, many on a GPU."""
    return max(1, (8 if device == "cpu" else 256) // crops)


def check_batch_size(batch_size: int, meta: FeatureMeta, num_images: int, device: str) -> None:
    """Raise ConfigError if the batches of ``num_images`` images that are in progress at once cannot fit in memory."""
    available = None if device.startswith("cuda") else available_bytes()
    if available is None:
        return
    size = min(batch_size, num_images)
    at_once = min(num_threads(), MAX_WORKERS, -(-num_images // size))
    per_image = 4 * 3 * int(meta.preprocessing["side"]) ** 2 * meta.crops * ACTIVATIONS
    needed, fits = size * at_once * per_image, available // (2 * at_once * per_image)
    if needed > available:
        raise ConfigError(
            f"batches of {size:,} images need about {format_bytes(needed)}, {format_bytes(available)} are available",
            f"decrease --batch-size, for example --batch-size {max(1, min(256, fits))}",
        )


def _encode_in_workers(
    batches: Iterator[list[Path]], backbone: ImageBackbone, opener: ImageOpener, encode: EncodeImages
) -> Iterator[FileFeatures]:
    threads = num_threads()
    workers = min(threads, MAX_WORKERS)

    def encode_batch(batch: list[Path]) -> list[FileFeatures]:
        return _encode([(path, _read_pixels(path, backbone, opener)) for path in batch], encode)

    try:
        with _pool(workers, threads // workers) as pool:
            for results in _run_ahead(pool, encode_batch, batches, workers + 1):
                yield from results
    finally:
        set_num_threads(threads)  # torch would use the setting of the workers in new threads


def _encode_with_prefetch(
    batches: Iterator[list[Path]], backbone: ImageBackbone, opener: ImageOpener, encode: EncodeImages
) -> Iterator[FileFeatures]:
    decode = partial(_read_pixels, backbone=backbone, opener=opener)
    threads = num_threads()
    try:
        with _pool(min(cpu_count(), 16), 1) as pool:

            def submit(batch: list[Path]) -> list[tuple[Path, Future[Any]]]:
                return [(path, pool.submit(decode, path)) for path in batch]

            queue = deque(map(submit, islice(batches, 2)))
            try:
                while queue:
                    batch = queue.popleft()
                    queue.extend(map(submit, islice(batches, 1)))
                    yield from _encode([(path, future.result()) for path, future in batch], encode)
            finally:
                for _, future in (pair for batch in queue for pair in batch):
                    future.cancel()
    finally:
        set_num_threads(threads)


def batches_of(paths: Iterable[Path], size: int) -> Iterator[list[Path]]:
    """Consecutive ``paths``, ``size`` at a time, read as they are needed."""
    remaining = iter(paths)
    while batch := list(islice(remaining, size)):
        yield batch


def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """A pool of ``workers`` threads; in each, torch uses ``threads`` threads."""
    return ThreadPoolExecutor(workers, "decode", set_num_threads, (threads,))


def _run_ahead(
    pool: ThreadPoolExecutor, work: Callable[[list[Path]], list[FileFeatures]], batches: Iterator[list[Path]], num: int
) -> Iterator[list[FileFeatures]]:
    """The results of ``work`` in order; ``num`` batches are in progress or finished but not yet yielded."""
    queue = deque(pool.submit(work, batch) for batch in islice(batches, num))
    try:
        while queue:
            results = queue.popleft().result()
            queue.extend(pool.submit(work, batch) for batch in islice(batches, 1))
            yield results
    finally:
        for future in queue:
            future.cancel()


def _read_pixels(path: Path, backbone: ImageBackbone, opener: ImageOpener) -> Any:
    """Decode and preprocess one file: (crops, 3, height, width) uint8, or Unreadable."""
    try:
        return backbone.preprocess(opener(path))
    except BadData as error:
        return Unreadable.of(path, error)


def _encode(decoded: list[tuple[Path, Any]], encode: EncodeImages) -> list[FileFeatures]:
    encoded = encode([pixels for _, pixels in decoded if not isinstance(pixels, Unreadable)])

    def result_of(path: Path, pixels: Any) -> np.ndarray | Unreadable:
        if isinstance(pixels, Unreadable):
            return pixels
        row, is_finite = next(encoded)
        return row if is_finite else Unreadable(path, NOT_FINITE, Category.NOT_FINITE, may_change=True)

    return [(path, result_of(path, pixels)) for path, pixels in decoded]


def _encode_images(
    backbone: ImageBackbone, embed: Embed | None, size: BatchSize, images: list[Any]
) -> Iterator[tuple[np.ndarray, bool]]:
    """The features of each image, or the output of ``embed``, and whether the features are finite."""

    def encode(start: int, end: int) -> list[tuple[np.ndarray, bool]]:
        features = forward_images(images[start:end], backbone)
        finite = [bool(np.isfinite(row).all()) for row in features]
        return list(zip(features if embed is None else embed(features), finite, strict=True))

    for part in size.run(encode, len(images)):
        yield from part


def forward_images(images: list[Any], backbone: ImageBackbone) -> np.ndarray:
    """Pixels per image -> (images, dim), the mean over crops, or (images, crops * cells, dim) float32."""
    output = _encode_pixels(images, backbone)
    crops = len(images[0])
    if crops > 1:
        output = output.reshape(len(images), crops, *output.shape[1:])
        output = output.mean(1) if output.ndim == 3 else output.reshape(len(images), -1, output.shape[-1])
    return output


def _encode_pixels(images: list[Any], backbone: ImageBackbone) -> np.ndarray:
    """(crops, 3, height, width) arrays or tensors -> (images * crops, ...) float32."""
    if isinstance(images[0], np.ndarray):
        exported: np.ndarray = backbone.encode(np.concatenate(images))
        return exported
    import torch

    rows: np.ndarray = backbone.encode(torch.cat(images)).float().cpu().numpy()
    return rows


def opener_for(backbone: ImageBackbone, reader: ImageReader | None = None) -> ImageOpener:
    """A function that opens images at ``decoded_side``.

    ``reader`` collects the defects of images that are decoded nevertheless.
    """
    from xmodal_cli.data.images import ImageReader

    return partial((reader or ImageReader()).open, max_side=decoded_side(backbone))


def decoded_side(backbone: ImageBackbone) -> int:
    """The reduced scale at which images are opened, in pixels: at least twice the input side of the backbone.

    A large JPEG is decoded several times faster. The features have a cosine of 0.999 to those of the full decode; with
    once the side it would be 0.997.
    """
    return 2 * int(backbone.meta.preprocessing["side"])
