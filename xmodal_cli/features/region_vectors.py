"""Region features of an external detector as rows of a feature store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmodal_cli.data.region_reading import RegionSource
from xmodal_cli.data.region_records import Regions, region_rows
from xmodal_cli.errors import BadData
from xmodal_cli.regions import NUM_REGIONS, REGION_COLUMNS
from xmodal_cli.types import Example, FeatureMeta, ImageVectors, Unreadable


def region_meta(name: str, source: RegionSource) -> FeatureMeta:
    """The ``FeatureMeta`` of the regions in ``source``; the fingerprint is that of the files. Raises BadData."""
    facts = {"format": source.format, "regions": NUM_REGIONS}
    return FeatureMeta(name, source.fingerprint, "regions", source.width() + len(REGION_COLUMNS), facts)


def region_vectors(examples: Sequence[Example], source: RegionSource, dim: int) -> ImageVectors:
    """A function from image paths to (regions, dim) float32 or ``Unreadable``; the image files may be missing.

    Raises BadData if two images match the same entry.
    """
    names = _entry_names(examples, source)

    def vectors(paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in paths:
            try:
                yield path, read_rows(path)
            except BadData as error:
                yield path, Unreadable.of(path, error)

    def read_rows(path: Path) -> np.ndarray:
        name = names.get(path)
        if name is None:
            raise BadData(f"{source.path} has no regions of {path.name}")
        rows = region_rows(_with_image_size(source.read(name), path), NUM_REGIONS)
        if rows.shape[1] != dim:
            width = len(REGION_COLUMNS)
            raise BadData(f"{name} in {source.path} has {rows.shape[1] - width} features, others have {dim - width}")
        return rows

    return vectors


def _entry_names(examples: Sequence[Example], source: RegionSource) -> dict[Path, str]:
    """Image path -> the name of its entry in ``source``, for images that have one. Raises BadData."""
    names: dict[Path, str] = {}
    paths: dict[str, Path] = {}
    for example in examples:
        if example.path is None:
            continue
        name = source.find((example.image_id, example.path.name, example.path.stem))
        if name is None:
            continue
        first = paths.setdefault(name, example.path)
        if first != example.path:
            raise BadData(
                f"{source.path} has one entry {name!r} for two images, {first} and {example.path}",
                "name its entries by the dataset's image ids; `xmodal data info DATA` shows them",
            )
        names[example.path] = name
    return names


def _with_image_size(regions: Regions, image: Path) -> Regions:
    """Add the size of the image file if the boxes are in pixels. Raises BadData if it is unreadable."""
    if not regions.lacks_size:
        return regions
    from xmodal_cli.data.images import image_size

    try:
        return replace(regions, size=image_size(image))
    except BadData as error:
        raise BadData(
            f"{regions.where}: its boxes are in pixels of an image of unknown size ({error.message})"
        ) from error
