"""Images to the vectors of a matcher: backbone, feature extraction and model combined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from xmodal_cli.backbones import image_backbones
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData
from xmodal_cli.features.extraction import default_batch_size, encode_files, opener_for
from xmodal_cli.inference.image_encoders import load_backbone
from xmodal_cli.inference.image_inputs import ImageInput, InputVectors, image_inputs
from xmodal_cli.inference.torch_backbones import backbone_of
from xmodal_cli.inference.unchecked_features import report_unchecked
from xmodal_cli.paths import expand_home
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import FeatureMeta, ImageBackbone, ImageTextDataset, Unreadable

if TYPE_CHECKING:
    from xmodal_cli.data.images import ImageReader
    from xmodal_cli.inference.exported_matcher import ExportedMatcher
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import LoadedModel, ModelInfo


def image_vectors(loaded: LoadedMatcher | ExportedMatcher, reader: ImageReader | None = None) -> InputVectors:
    """A function that encodes images, in order: (path, (embed_dim,) float32 or Unreadable).

    The backbone that the matcher was trained with is built once, here. Raises IncompatibleFeatures if it is unavailable
    or has other weights or preprocessing than in training. ``reader`` collects the defects of readable images.
    """
    backbone = open_backbone(loaded)
    return partial(file_vectors, backbone, loaded.embed_features, loaded.compute, reader=reader)


def image_vectors_on_ray(
    loaded: LoadedMatcher | ExportedMatcher, compute: Compute, reader: ImageReader
) -> Callable[[Iterable[Path]], Iterator[tuple[Path, np.ndarray | Unreadable]]]:
    """``image_vectors`` for paths, by the workers of a Ray cluster, on the runtime of ``loaded``."""
    from xmodal_cli.features.ray_encoding import encode_on_ray

    build = partial(_image_vectors_of_worker, loaded.info, replace(compute.of_worker, runtime=loaded.compute.runtime))
    size = default_batch_size("cpu", loaded.meta.crops)
    return lambda paths: encode_on_ray(build, paths, size, reader.defects, compute.address)


def _image_vectors_of_worker(info: ModelInfo, compute: Compute, reader: ImageReader) -> InputVectors:
    from xmodal_cli.features.ray_mapping import has_gpu
    from xmodal_cli.inference.exported_matcher import open_matcher

    if has_gpu():
        compute = replace(compute, runtime="torch")
    return image_vectors(open_matcher(info, compute, 1, SILENT), reader)


def file_vectors(
    backbone: ImageBackbone,
    embed: Callable[[np.ndarray], np.ndarray],
    compute: Compute,
    images: Iterable[ImageInput],
    reader: ImageReader | None = None,
) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
    """Encode images (paths or PIL) with ``backbone``, then ``embed``: (images, ...) features -> (images, embed_dim).

    In order: (path, (embed_dim,) float32 or Unreadable).
    """
    paths, opener = image_inputs(images, opener_for(backbone, reader))
    return encode_files(paths, backbone, opener, compute, embed=embed)


def embed_images(
    loaded: LoadedMatcher | ExportedMatcher, dataset: ImageTextDataset, reporter: Reporter
) -> tuple[ImageTextDataset, np.ndarray]:
    """The dataset without unreadable images, and (images, embed_dim) float32 vectors of the others.

    Features are read from the cache, or extracted into it; a matcher that reads pixels, or runs on onnxruntime, encodes
    the images each time. Raises IncompatibleFeatures, BadData.
    """
    if loaded.meta.kind == "pixels" or loaded.compute.runtime == "onnx":
        return _embed_files(loaded, dataset, reporter)
    from xmodal_cli.features.image_features import read_image_features

    images = read_image_features(dataset, settings_for(loaded.info), loaded.compute, reporter)
    check_features(loaded.info, dataset, images.meta, reporter)
    assert images.features is not None
    return images.dataset, cast("LoadedMatcher", loaded).embed_features(images.features)


def _embed_files(
    loaded: LoadedMatcher | ExportedMatcher, dataset: ImageTextDataset, reporter: Reporter
) -> tuple[ImageTextDataset, np.ndarray]:
    from xmodal_cli.data.unreadable_images import drop_unreadable_images

    readable = drop_unreadable_images(dataset, reporter)
    vectors = image_vectors(loaded)
    rows = []
    with reporter.task("embedding", len(readable.examples), "images") as task:
        for path, vector in vectors([e.path for e in readable.examples if e.path is not None]):
            if isinstance(vector, Unreadable):
                raise BadData(f"{path} cannot be embedded: {vector.reason}", "check the file")
            rows.append(vector)
            task.advance()
    return readable, np.stack(rows)


def open_backbone(model: LoadedModel) -> ImageBackbone:
    """The backbone of a loaded model, on its runtime. Raises the errors of ``load_backbone`` and ``backbone_of``."""
    if model.compute.runtime == "onnx":
        return load_backbone(model.name, model.meta, SILENT)
    return backbone_of(model.name, model.meta)


def check_features(info: ModelInfo, dataset: ImageTextDataset, found: FeatureMeta, reporter: Reporter) -> None:
    """Raise IncompatibleFeatures unless ``found``, the features of a dataset, are those that a model reads.

    Reports that the declared features of the model were not checked, if the dataset has images.
    """
    from xmodal_cli.features.image_features import check_same_features

    if not dataset.has_features:
        report_unchecked([info], reporter)
    check_same_features(info.name, info.meta, dataset, found, info.from_precomputed)


def settings_for(info: ModelInfo) -> FeaturesConfig:
    """The features that a model reads; for imported regions, the files used in training if they still exist."""
    name = info.meta.backbone
    if image_backbones.is_from_files(name):
        trained_on = str(info.header.training.get("features", {}).get("backbone", ""))
        path = trained_on.partition("@")[2]
        if image_backbones.is_from_files(trained_on) and path and expand_home(path).exists():
            name = trained_on
    return FeaturesConfig(name, info.meta.kind, info.meta.crops)
