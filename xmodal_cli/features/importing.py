"""Regions that a detector elsewhere made, on their way into a feature store. Knows nothing of formats and torch."""

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


def imported_meta(name: str, source: RegionSource) -> FeatureMeta:
    """What the store of the backbone ``name`` will say; the fingerprint is of the files. Raises BadData."""
    facts = {"format": source.format, "regions": NUM_REGIONS}
    return FeatureMeta(name, source.fingerprint, "regions", source.width() + len(REGION_COLUMNS), facts)


def imported_regions(examples: Sequence[Example], source: RegionSource, dim: int) -> ImageVectors:
    """What turns pictures' paths into (regions, dim) float32 or ``Unreadable``; no picture need be there.

    Raises BadData where two pictures would get the same regions.
    """
    names = _claims(examples, source)

    def vectors(paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in paths:
            try:
                yield path, _rows(path)
            except BadData as error:
                yield path, Unreadable(path, error.message)

    def _rows(path: Path) -> np.ndarray:
        name = names.get(path)
        if name is None:
            raise BadData(f"{source.path} has no regions of {path.name}")
        rows = region_rows(_sized(source.read(name), path), NUM_REGIONS)
        if rows.shape[1] != dim:
            width = len(REGION_COLUMNS)
            raise BadData(f"{name} in {source.path} has {rows.shape[1] - width} features, others have {dim - width}")
        return rows

    return vectors


def _claims(examples: Sequence[Example], source: RegionSource) -> dict[Path, str]:
    """Picture -> its name in the source, for those that are there."""
    found: dict[Path, str] = {}
    owners: dict[str, Path] = {}
    for example in examples:
        if example.path is None:
            continue
        name = source.find((example.image_id, example.path.name, example.path.stem))
        if name is None:
            continue
        owner = owners.setdefault(name, example.path)
        if owner != example.path:
            raise BadData(
                f"{source.path} has one entry {name!r} for two pictures, {owner} and {example.path}",
                "name its entries by the dataset's image ids; `xmodal data info` shows them",
            )
        found[example.path] = name
    return found


def _sized(regions: Regions, picture: Path) -> Regions:
    """With the picture's size where the boxes are in its pixels."""
    if not regions.lacks_size:
        return regions
    from xmodal_cli.data.images import image_size

    try:
        return replace(regions, size=image_size(picture))
    except BadData as error:
        raise BadData(
            f"{regions.where}: its boxes are in pixels of a picture of unknown size ({error.message})"
        ) from error
