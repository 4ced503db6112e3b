"""Pictures in files to a matcher's vectors: backbone, extraction and model put together for search and index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.features.extraction import opener_for
from xmodal_cli.features.imported import is_imported
from xmodal_cli.inference.image_inputs import ImageInput, InputVectors, image_inputs
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import FeatureMeta, ImageBackbone, ImageTextDataset, Unreadable

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.matchers import LoadedMatcher


def image_vectors(loaded: LoadedMatcher) -> InputVectors:
    """What turns files into the matcher's vectors, in order: (path, (embed_dim,) float32 or Unreadable).

    The backbone is the one the matcher was trained on; it is built here, once. Raises
    IncompatibleFeatures when it cannot be had, or has other weights or preprocessing than then.
    """
    backbone = backbone_of(loaded.name, loaded.meta)

    return partial(file_vectors, backbone, loaded.embed_features, loaded.compute)


def file_vectors(
    backbone: ImageBackbone,
    embed: Callable[[np.ndarray], np.ndarray],
    compute: Compute,
    images: Iterable[ImageInput],
) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
    """Images (paths or PIL) through ``backbone``, then ``embed``: (images, ...) features -> (images, embed_dim).

    In order: (path, (embed_dim,) float32 or Unreadable).
    """
    from xmodal_cli.features.extraction import encode_files

    paths, opener = image_inputs(images, opener_for(backbone))
    return encode_files(paths, backbone, opener, compute, embed=embed)


def embed_images(
    loaded: LoadedMatcher, dataset: ImageTextDataset, reporter: Reporter
) -> tuple[ImageTextDataset, np.ndarray]:
    """The dataset without the images that cannot be read, and the vectors (images, embed_dim) float32 of the others.

    Features are read from the cache, or computed and kept there; a matcher that reads pixels computes its vectors
    each time. Raises IncompatibleFeatures, BadData.
    """
    from xmodal_cli.features.image_features import with_features

    if loaded.meta.kind == "pixels":
        return _embed_pixels(loaded, dataset, reporter)
    part, features = with_features(dataset, settings_for(loaded), loaded.compute, reporter)
    if features.meta.key() != loaded.meta.key():
        raise IncompatibleFeatures(
            f"{loaded.name} reads features of {loaded.meta.backbone}, {dataset.name} has {features.meta.backbone}",
            "give data with the same features, or train a model on these",
        )
    return part, loaded.embed_features(features.values)


def _embed_pixels(
    loaded: LoadedMatcher, dataset: ImageTextDataset, reporter: Reporter
) -> tuple[ImageTextDataset, np.ndarray]:
    import numpy as np

    from xmodal_cli.data.unreadable_images import drop_unreadable_images

    part = drop_unreadable_images(dataset, reporter)
    vectors = image_vectors(loaded)
    rows = []
    with reporter.task("embedding", len(part.examples), "pictures") as bar:
        for path, vector in vectors([e.path for e in part.examples if e.path is not None]):
            if isinstance(vector, Unreadable):
                raise BadData(f"{path} cannot be embedded: {vector.reason}", "check the file")
            rows.append(vector)
            bar.advance()
    return part, np.stack(rows)


def backbone_of(model: str, meta: FeatureMeta) -> ImageBackbone:
    """The backbone that made the features ``meta`` describes. Raises IncompatibleFeatures, and what building raises."""
    from xmodal_cli.backbones.image_backbones import build_backbone
    from xmodal_cli.features.imported import is_imported

    if meta.backbone == "precomputed":
        raise IncompatibleFeatures(
            f"{model} was trained on features that came with its dataset; no backbone here makes them of a picture",
            "train a model on pictures, for example: xmodal train --model order-emb --data f8k",
        )
    if is_imported(meta.backbone):
        raise IncompatibleFeatures(
            f"{model} was trained on regions that a detector elsewhere made and that were read from files; "
            "no backbone here makes them of a new picture",
            "train a model on a detector that is here: --backbone faster-rcnn-resnet50 --set features.kind=regions",
        )
    backbone = build_backbone(meta.backbone, meta.kind, meta.crops)
    if backbone.meta.key() != meta.key():
        raise IncompatibleFeatures(
            f"{meta.backbone} has other weights or preprocessing here than when {model} was trained",
            f"bring the weights with sha256 {meta.fingerprint[:16]}..., or train the model again",
        )
    return backbone


def settings_for(loaded: LoadedMatcher) -> FeaturesConfig:
    """The features that a matcher reads; imported regions from the files its training named, where they still are."""
    name = loaded.meta.backbone
    if is_imported(name):
        named = str(loaded.info.header.training.get("features", {}).get("backbone", ""))
        where = named.partition("@")[2]
        if is_imported(named) and where and Path(where).expanduser().exists():
            name = named
    return FeaturesConfig(name, loaded.meta.kind, loaded.meta.crops)
