"""What the rows of an embeddings file are: dataset, split, image ids, and a fingerprint of ids and captions.

``xmodal features --model`` writes it to the file; ``eval`` compares it with the split that it evaluates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.types import ImageTextDataset

KEYS = ("data", "split", "fingerprint")


@dataclass(frozen=True)
class VectorsOrigin:
    """``image_ids`` has one id per row of the image vectors; ``split`` has several names, joined by commas, if any."""

    data: str
    split: str
    fingerprint: str
    image_ids: tuple[str, ...]

    def to_strings(self) -> dict[str, str]:
        """The metadata of a safetensors file."""
        return {**{key: getattr(self, key) for key in KEYS}, "image_ids": json.dumps(self.image_ids)}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The additional arrays of an .npz file."""
        return {**{key: np.array(getattr(self, key)) for key in KEYS}, "image_ids": np.array(self.image_ids, dtype=str)}


def origin_of(dataset: ImageTextDataset) -> VectorsOrigin:
    """The origin of vectors of all images and captions of ``dataset``."""
    return VectorsOrigin(dataset.name, ",".join(dataset.splits), fingerprint(dataset), tuple(dataset.ids))


def from_strings(metadata: Mapping[str, str]) -> VectorsOrigin | None:
    """The origin in the metadata of a safetensors file, None if it has none. Raises ValueError."""
    if not {*KEYS, "image_ids"} <= set(metadata):
        return None
    data, split, digest = (metadata[key] for key in KEYS)
    return VectorsOrigin(data, split, digest, tuple(map(str, json.loads(metadata["image_ids"]))))


def from_arrays(arrays: Mapping[str, np.ndarray]) -> VectorsOrigin | None:
    """The origin in the arrays of an .npz file, None if it has none."""
    if not {*KEYS, "image_ids"} <= set(arrays):
        return None
    data, split, digest = (str(arrays[key]) for key in KEYS)
    return VectorsOrigin(data, split, digest, tuple(map(str, arrays["image_ids"].ravel())))


def find_rows(file: str, origin: VectorsOrigin, dataset: ImageTextDataset, split: str) -> ImageTextDataset:
    """The images of ``split`` that the rows of ``file`` are. Raises IncompatibleFeatures if they are not."""
    selected = dataset.select(split)
    part = _with_ids(selected, origin)
    if fingerprint(part) == origin.fingerprint:
        return part
    found = f"{file} has the vectors of {origin.split} of {origin.data}"
    if part.ids == origin.image_ids:
        raise IncompatibleFeatures(
            f"{found}, with other captions than {split} of {dataset.name}",
            "extract them again with `xmodal features DATA --model M --split S`",
        )
    fits = origin.split in dataset.splits and fingerprint(_with_ids(dataset.select(origin.split), origin))
    hint = f"set --split {origin.split}" if fits == origin.fingerprint else "set --data to the dataset of the file"
    raise IncompatibleFeatures(f"{found}, not of {split} of {dataset.name}", f"{hint}, or extract those of {split}")


def _with_ids(dataset: ImageTextDataset, origin: VectorsOrigin) -> ImageTextDataset:
    """The images of ``dataset`` that are in the file: unreadable ones are not."""
    ids = set(origin.image_ids)
    return replace(dataset, examples=tuple(e for e in dataset.examples if e.image_id in ids))
