"""Encoders and captioners for the workers of a Ray cluster, which import them by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import BadData, BadModel
from xmodal_cli.inference.caption_types import Caption, CaptionGenerator, CaptionRequest, CaptionResults
from xmodal_cli.inference.image_inputs import ImageInput
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import ImageVectors, Unreadable


def mean_colors(reader: ImageReader, paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
    """The mean color of each image."""
    for path in paths:
        try:
            yield path, np.asarray(reader.open(path), np.float32).mean((0, 1))
        except BadData as error:
            yield path, Unreadable.of(path, error)


def build(reader: ImageReader) -> ImageVectors:
    return partial(mean_colors, reader)


def build_dying(marker: Path, name: str, reader: ImageReader) -> ImageVectors:
    """The first worker that meets the file ``name`` is killed."""

    def encode(paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        block = list(paths)
        if name in {path.name for path in block} and not marker.exists():
            marker.touch()
            os._exit(1)
        yield from mean_colors(reader, block)

    return encode


def build_killed(reader: ImageReader) -> ImageVectors:
    """Each worker is killed."""
    os._exit(1)


def build_missing(reader: ImageReader) -> ImageVectors:
    raise BadModel("the weights are damaged", "copy them again")


def build_faulty(reader: ImageReader) -> ImageVectors:
    raise ZeroDivisionError("by the number of images")


def load_colors(request: CaptionRequest, reader: ImageReader, num_images: int, reporter: Reporter) -> CaptionGenerator:
    """Captions with the mean color, the index in the job and arrays."""

    def captions(images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        results = mean_colors(reader, [Path(image) for image in images])  # type: ignore[arg-type]
        for index, (path, color) in enumerate(results, first):
            if isinstance(color, Unreadable):
                yield path, color
                continue
            text = " ".join(f"{value:.3f}" for value in color)
            attention = np.full((2, 3), float(color[0]), np.float32)
            best = Caption(text, -float(color[1]), text.split(), attention, ("a", "b"), attention[:, :1])
            yield path, [best, Caption(f"image {index}", -1e9, ["image", str(index)])]

    return CaptionGenerator("colors", captions, warnings=("a warning",))


def load_dying(
    marker: Path, name: str, request: CaptionRequest, reader: ImageReader, num_images: int, reporter: Reporter
) -> CaptionGenerator:
    """The first worker that meets the file ``name`` is killed."""
    loaded = load_colors(request, reader, num_images, reporter)

    def captions(images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        if name in {Path(image).name for image in images} and not marker.exists():  # type: ignore[arg-type]
            marker.touch()
            os._exit(1)
        return loaded.captions(images, first)

    return replace(loaded, captions=captions)


def load_damaged(request: CaptionRequest, reader: ImageReader, num_images: int, reporter: Reporter) -> CaptionGenerator:
    """The model raises an error for its second block."""
    loaded = load_colors(request, reader, num_images, reporter)

    def captions(images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        if first:
            raise BadModel("the captioner returns NaN", "use --precision fp32")
        return loaded.captions(images, first)

    return replace(loaded, captions=captions)
