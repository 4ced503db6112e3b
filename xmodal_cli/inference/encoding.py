"""Images to the vectors of a matcher: backbone, feature extraction and model combined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.backbones import image_backbones
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.features.extraction import encode_files, opener_for
from xmodal_cli.inference.image_inputs import ImageInput, InputVectors, image_inputs
from xmodal_cli.inference.unchecked_features import report_unchecked
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import PRECOMPUTED, FeatureMeta, ImageBackbone, ImageTextDataset, Unreadable

if TYPE_CHECKING:
    from xmodal_cli.data.images import ImageReader
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo


def image_vectors(loaded: LoadedMatcher, reader: ImageReader | None = None) -> InputVectors:
    """A function that encodes images, in order: (path, (embed_dim,) float32 or Unreadable).

    The backbone that the matcher was trained with is built once, here. Raises IncompatibleFeatures if it is unavailable
    or has other weights or preprocessing than in training. ``reader`` collects the defects of readable images.
    """
    backbone = backbone_of(loaded.name, loaded.meta)
    return partial(file_vectors, backbone, loaded.embed_features, loaded.compute, reader=reader)


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
    loaded: LoadedMatcher, dataset: ImageTextDataset, reporter: Reporter
) -> tuple[ImageTextDataset, np.ndarray]:
    """The dataset without unreadable images, and (images, embed_dim) float32 vectors of the others.

    Features are read from the cache, or extracted into it; a matcher that reads pixels encodes the images each
    time. Raises IncompatibleFeatures, BadData.
    """
    from xmodal_cli.features.image_features import load_readable_features

    if loaded.meta.kind == "pixels":
        return _embed_pixels(loaded, dataset, reporter)
    readable, features = load_readable_features(dataset, settings_for(loaded.info), loaded.compute, reporter)
    check_features(loaded.info, dataset, features.meta, reporter)
    return readable, loaded.embed_features(features.values)


def _embed_pixels(
    loaded: LoadedMatcher, dataset: ImageTextDataset, reporter: Reporter
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


def backbone_of(model: str, meta: FeatureMeta) -> ImageBackbone:
    """The backbone of the features in ``meta``. Raises IncompatibleFeatures, and like ``build_backbone``."""
    if meta.backbone == PRECOMPUTED:
        raise IncompatibleFeatures(
            f"{model} was trained on precomputed features of an unknown backbone; they cannot be extracted from images",
            "train it again and name their backbone: xmodal train --features-from BACKBONE",
        )
    if image_backbones.is_from_files(meta.backbone):
        raise IncompatibleFeatures(
            f"{model} was trained on regions of an external detector; they cannot be extracted from new images",
            "train a model with an available detector: --backbone faster-rcnn-resnet50 --set features.kind=regions",
        )
    backbone = image_backbones.build_backbone(meta.backbone, meta.kind, meta.crops)
    if backbone.meta.key() != meta.key():
        raise image_backbones.other_features_error(model, meta, backbone.meta)
    return backbone


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
        if image_backbones.is_from_files(trained_on) and path and Path(path).expanduser().exists():
            name = trained_on
    return FeaturesConfig(name, info.meta.kind, info.meta.crops)
