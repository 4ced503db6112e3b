"""The records of datasets: images with captions and splits, and how features were computed. ``types`` exports them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.splits import canonical_split

if TYPE_CHECKING:
    import numpy as np

PRECOMPUTED = "precomputed"  # ``FeatureMeta.backbone`` of features that come with a dataset


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """The location of an image feature that comes with a dataset: row ``row`` of a ``.npy`` file."""

    path: Path
    row: int


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """The backbone that the user declared for the precomputed features of a dataset, and its number of crops.

    ``cosine``: of the features of photos to the nearest rows (``features/feature_source.py``), None if unchecked.
    """

    backbone: str
    crops: int = 1
    cosine: float | None = None


def check_feature_source(facts: Any, where: str) -> None:
    """Raise ValueError unless ``facts``, from a file, are the fields of a FeatureSource; ``where`` names them."""
    types = {"backbone": (str,), "crops": (int,), "cosine": (int, float, type(None))}
    if not isinstance(facts, dict) or set(facts) != set(types):
        raise ValueError(f"{where} is not a table of {', '.join(types)}")
    for name, allowed in types.items():
        if not isinstance(facts[name], allowed) or isinstance(facts[name], bool):
            raise ValueError(f"{where}.{name} is {str(facts[name])[:40]!r}")


@dataclass(frozen=True, slots=True)
class Example:
    """One image, its captions and its split.

    ``path`` may point into a tar file (``shard-000.tar/0001.jpg``). It is None if the dataset has only precomputed
    features; ``feature`` is then their location.
    """

    image_id: str
    path: Path | None
    captions: tuple[str, ...]
    split: str
    feature: FeatureRow | None = None


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row of a dataset's files that cannot be used. ``where`` is the file, and the line or entry."""

    where: str
    reason: str


@dataclass(frozen=True)
class ImageTextDataset:
    """Images, each with any number of captions. ``source`` is the path that the dataset was read from.

    ``features_from`` is the backbone of the features of a dataset without images, if the user declared it.
    """

    name: str
    format: str
    source: Path
    examples: tuple[Example, ...]
    skipped_rows: tuple[SkippedRow, ...] = ()
    notes: tuple[str, ...] = ()
    features_from: FeatureSource | None = None

    @property
    def splits(self) -> dict[str, int]:
        """Split -> number of images, in order of first appearance."""
        counts: dict[str, int] = {}
        for example in self.examples:
            counts[example.split] = counts.get(example.split, 0) + 1
        return counts

    @property
    def has_features(self) -> bool:
        """Whether it comes with precomputed features."""
        return any(example.feature is not None for example in self.examples)

    def select(self, *splits: str) -> ImageTextDataset:
        """The examples of ``splits``, in the order of the dataset; ``dev`` is ``val``."""
        names = {canonical_split(split) for split in splits}
        return replace(self, examples=tuple(e for e in self.examples if e.split in names))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Image ids, one per example."""
        return tuple(e.image_id for e in self.examples)

    @cached_property
    def captions(self) -> list[str]:
        """All captions, image by image."""
        return [c for e in self.examples for c in e.captions]

    @cached_property
    def image_of_caption(self) -> np.ndarray:
        """(captions,) int64: the index in ``examples`` of each caption's image."""
        import numpy as np

        return np.repeat(np.arange(len(self.examples)), [len(e.captions) for e in self.examples])


@dataclass(frozen=True)
class FeatureMeta:
    """How image features were computed. Features are compatible if their ``key()`` is equal.

    ``kind`` is ``global``, ``grid`` or ``regions`` (rows end in ``regions.REGION_COLUMNS``); ``dim`` is the size of the
    last axis; ``fingerprint`` the sha256 of the weights; ``preprocessing`` the settings of the image transforms.
    """

    backbone: str
    fingerprint: str
    kind: str
    dim: int
    preprocessing: dict[str, Any] = field(default_factory=dict)
    crops: int = 1

    def key(self) -> tuple[Any, ...]:
        """The values that features, model, query and index must share."""
        settings = tuple(sorted((k, str(v)) for k, v in self.preprocessing.items()))
        return (self.backbone, self.fingerprint, self.kind, self.dim, self.crops, settings)
