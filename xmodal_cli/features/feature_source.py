"""The declared backbone of a dataset's precomputed features, and its check on photos of the dataset.

Photos are compared with all rows, because the files have no image names: the features of a photo of the dataset have a
high cosine to one row if the backbone is right. The mean of the rows is subtracted first, since features that are
never negative have a high cosine to each other whatever the images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmodal_cli.backbones.image_backbones import build_backbone, check_request, is_from_files
from xmodal_cli.data.npy_files import map_features
from xmodal_cli.data.photo_files import find_photos
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures, MissingData
from xmodal_cli.features.precision import check_shape, read_rows
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import FeatureMeta, FeatureSource, ImageBackbone, ImageTextDataset, Unreadable
from xmodal_cli.unit_vectors import unit_vectors

NUM_PHOTOS = 16  # photos that are compared
# Flickr8k, EfficientNet-Lite2, medians: the same pipeline 1.0, ten crops 0.92, photos of another resolution 0.81, which
# are also cropped 0.69; fine-tuned weights 0.61, the nearest other photo 0.33, a permutation of the columns 0.13
MIN_COSINE = 0.65  # below it the rows are not features of these photos
SAME_COSINE = 0.95  # below it the rows were computed in another way
_CHUNK = 1 << 24  # values read at once


def declare_source(
    dataset: ImageTextDataset, source: FeatureSource, photos: Path | None, compute: Compute, reporter: Reporter
) -> ImageTextDataset:
    """``dataset`` with ``source`` as its ``features_from``, checked on ``photos``, a folder, if it is given.

    Raises ConfigError for a dataset of images, UnknownName, IncompatibleFeatures for features of another shape or with
    a cosine below ``MIN_COSINE`` to those of the photos, and the errors of building the backbone.
    """
    if not dataset.has_features:
        raise ConfigError(
            f"{dataset.name} has images, and features-from is for datasets with precomputed features",
            f"choose the backbone with --backbone {source.backbone}",
        )
    backbone = _matching_backbone(dataset, source)
    if photos is not None:
        features = _encode_photos(photos, backbone, compute)
        described = f"features of {len(features)} photos in {photos} by {source.backbone}"
        source = replace(source, cosine=_check_cosine(dataset, features, described, reporter))
    return replace(dataset, features_from=source)


def with_known_cosine(source: FeatureSource, *checked: FeatureSource | None) -> FeatureSource:
    """``source`` with the cosine of the first of ``checked`` that declares the same and was compared with photos."""
    for other in checked:
        if source.cosine is None and other is not None and replace(other, cosine=None) == source:
            source = other
    return source


def declared_meta(dataset: ImageTextDataset, source: FeatureSource) -> FeatureMeta:
    """How the precomputed features of a dataset were computed, according to ``source``.

    Raises IncompatibleFeatures if the backbone has features of another shape, and the errors of building it.
    """
    return _matching_backbone(dataset, source).meta


def kind_of_rows(shape: Sequence[int]) -> str:
    """The kind of precomputed features whose rows have this shape."""
    return "grid" if len(shape) == 2 else "global"


def _check_cosine(dataset: ImageTextDataset, features: np.ndarray, described: str, reporter: Reporter) -> float:
    """The median cosine of features to their nearest rows. Raises IncompatibleFeatures below ``MIN_COSINE``."""
    cosine = round(float(np.median(_nearest_cosines(dataset, features))), 4)
    found = f"{described} have a median cosine of {cosine:.3f} to the nearest rows of {dataset.name}"
    if cosine < MIN_COSINE:
        raise IncompatibleFeatures(
            f"{found}; at least {MIN_COSINE} is expected",
            "name the backbone and the number of crops that computed the features, or give photos of this dataset",
        )
    if cosine < SAME_COSINE:
        reporter.warn(f"{found}: the photos have another size, or crops, preprocessing or weights differ")
    else:
        reporter.info(found)
    return cosine


def _nearest_cosines(dataset: ImageTextDataset, features: np.ndarray) -> np.ndarray:
    """(photos, ...) features -> (photos,): the cosine of each to its nearest row, after subtracting the mean row."""
    total, count = np.zeros(features[0].size), 0
    for rows in _row_chunks(dataset):
        total += rows.sum(axis=0, dtype=np.float64)
        count += len(rows)
    mean = (total / count).astype(np.float32)
    queries = unit_vectors(features.reshape(len(features), -1) - mean)
    best = np.full(len(features), -1.0, np.float32)
    for rows in _row_chunks(dataset):
        np.maximum(best, (queries @ unit_vectors(rows - mean).T).max(axis=1), out=best)
    return best


def _matching_backbone(dataset: ImageTextDataset, source: FeatureSource) -> ImageBackbone:
    """The backbone, if its features have the shape of the rows."""
    file = next(e.feature.path for e in dataset.examples if e.feature is not None)
    shape = map_features(file).shape[1:]
    if is_from_files(source.backbone):
        raise IncompatibleFeatures(
            f"{source.backbone} regions are read from files and cannot be computed for photos",
            "name the network that computed the features",
        )
    check_request(source.backbone, kind_of_rows(shape), source.crops)
    backbone = build_backbone(source.backbone, kind_of_rows(shape), source.crops)
    actual = _shape_of(backbone)
    if actual != shape:
        this, other = (" x ".join(map(str, sides)) for sides in (shape, actual))
        raise IncompatibleFeatures(
            f"{file} has rows of {this} values, and {source.backbone} has features of {other}",
            "name the backbone that computed the features",
        )
    return backbone


def _shape_of(backbone: ImageBackbone) -> tuple[int, ...]:
    """The shape of the features of one image."""
    from PIL import Image

    pixels = backbone.preprocess(Image.new("RGB", (64, 64), "gray"))
    return tuple(backbone.encode(pixels[:1]).shape[1:])


def _encode_photos(folder: Path, backbone: ImageBackbone, compute: Compute) -> np.ndarray:
    """The features of readable photos in ``folder``, evenly spaced in its list. Raises MissingData."""
    from xmodal_cli.features.extraction import encode_files, opener_for

    found = find_photos([folder])
    paths = [photo.path for photo in found if photo.problem is None]
    spaced = paths[:: -(-len(paths) // NUM_PHOTOS) or 1]
    encoded = encode_files(spaced, backbone, opener_for(backbone), compute.resolve())
    features = [values for _, values in encoded if not isinstance(values, Unreadable)]
    if not features:
        problem = next((photo.problem.message for photo in found if photo.problem), f"{folder} has no readable photo")
        raise MissingData(problem, "give a folder with photos of the dataset")
    return np.stack(features)


def _row_chunks(dataset: ImageTextDataset) -> Iterator[np.ndarray]:
    """The rows of all images as (rows, values) float32, a part at a time. Raises BadData."""
    numbers: dict[Path, list[int]] = {}
    for example in dataset.examples:
        if example.feature is not None:
            numbers.setdefault(example.feature.path, []).append(example.feature.row)
    first = next(iter(numbers))
    for file, rows in numbers.items():
        mapped = map_features(file)
        check_shape(file, mapped.shape[1:], f"those of {first}", map_features(first).shape[1:])
        size = max(1, _CHUNK // mapped[0].size)
        for start in range(0, len(rows), size):
            part = read_rows(file, mapped, rows[start : start + size])
            yield part.reshape(len(part), -1).astype(np.float32)
