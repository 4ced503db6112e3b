"""Captions by the workers of a Ray cluster (``features/ray_mapping.py``): those of one process, in their order.

The models are loaded once in this process too: it exports them, finds their errors, and knows their name. Each worker
loads them with its first block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from xmodal_cli.features.ray_mapping import ImageMapping, MapBlock, Packed, has_gpu, map_on_ray
from xmodal_cli.inference.caption_types import Caption, CaptionGenerator, CaptionRequest, CaptionResults
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.image_inputs import ImageInput
from xmodal_cli.paths import given_path
from xmodal_cli.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from xmodal_cli.data.images import ImageReader

BATCH = 64  # a multiple of the batches of all generators on a CPU
ARRAYS = ("attention", "boxes")  # of a caption

# a request, the reader of the images, their number, and a reporter -> the generator
LoadGenerator = Callable[[CaptionRequest, "ImageReader", int, Reporter], CaptionGenerator]


def generator_on_ray(
    load: LoadGenerator, request: CaptionRequest, reader: ImageReader, num_images: int, reporter: Reporter
) -> CaptionGenerator:
    """The generator of ``load``, a function that Ray pickles by its name, with its captions computed by a cluster.

    Raises the errors of ``load`` and ``map_on_ray``.
    """
    models = request.models or (default_model("matcher" if request.nearest else "captioner"),)
    local = replace(request, models=models, compute=request.compute.of_worker)
    generator = load(local, reader, num_images, reporter)
    of_worker = replace(local, compute=replace(local.compute, runtime=generator.runtime))
    mapping = ImageMapping(partial(_build, load, of_worker), _pack, _unpack)

    def captions(images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        paths = [given_path(cast("Path", image)) for image in images]
        return map_on_ray(mapping, paths, BATCH, reader.defects, request.compute.address, first)

    return replace(generator, captions=captions)


def _build(load: LoadGenerator, request: CaptionRequest, reader: ImageReader) -> MapBlock:
    if has_gpu():
        request = replace(request, compute=replace(request.compute, runtime="torch"))
    return load(request, reader, BATCH, SILENT).captions


def _pack(values: list[list[Caption]]) -> Packed:
    """Captions as JSON, with the names of their arrays."""
    arrays: dict[str, np.ndarray] = {}

    def store(array: np.ndarray | None) -> str | None:
        if array is None:
            return None
        name = str(len(arrays))
        arrays[name] = np.ascontiguousarray(array)
        return name

    def to_json(caption: Caption) -> list[Any]:
        named = [store(getattr(caption, name)) for name in ARRAYS]
        return [caption.text, float(caption.score), caption.words, caption.tags, *named]

    return arrays, [[to_json(caption) for caption in captions] for captions in values]


def _unpack(packed: Packed) -> Iterator[list[Caption]]:
    arrays, values = packed
    for captions in values:
        yield [
            Caption(text, score, words, arrays.get(attention), tuple(tags), arrays.get(boxes))
            for text, score, words, tags, attention, boxes in captions
        ]
