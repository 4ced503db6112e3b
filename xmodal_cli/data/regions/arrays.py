"""One ``.npz`` or ``.npy`` file per image, named by image id or by image file name without suffix.

``.npz`` files are those of TERN (Messina et al. 2020), self-critical.pytorch and PyTorch ports of bottom-up attention:
features, boxes, image size, scores and classes under the names in ``KEYS``. ``.npy`` files have features only. Boxes
may be in separate files: ``ID_box.npy``, ``ID_bbox.npy`` or ``ID_boxes.npy`` next to the features, or ``ID.npy`` in a
folder whose name ends in ``box``, ``bbox`` or ``boxes``, in the feature folder or next to it (``cocobu_att``,
``cocobu_box``). Without an image size, boxes in pixels use the size of the dataset's image; without boxes a region is
the full image.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.region_records import Regions, map_region_array, region_error
from xmodal_cli.file_identity import is_file

PRIORITY = 40
KEYS = {
    "features": ("features", "feat", "feats", "x", "image_feat"),
    "boxes": ("boxes", "bbox", "norm_bb", "box"),
    "width": ("image_w", "image_width", "img_w", "width"),
    "height": ("image_h", "image_height", "img_h", "height"),
    "scores": ("scores", "conf", "objects_conf", "cls_scores"),
    "classes": ("objects_id", "objects", "classes", "labels"),
}
FEATURE_FOLDERS = ("att", "feat", "feats", "features")
BOX_FOLDERS = ("box", "bbox", "boxes")
BOX_SUFFIXES = ("_box", "_bbox", "_boxes")
IGNORED_SUFFIXES = ("_info",)  # pickled tables; never read


@dataclass(frozen=True, slots=True)
class ArrayLocation:
    """The feature file of an image, and its box file if boxes are separate."""

    features: Path
    boxes: Path | None


def matches(path: Path) -> bool:
    """A folder with at least one feature file."""
    return path.is_dir() and any(True for folder in _folders(path, FEATURE_FOLDERS) for _ in _array_files(folder))


def files(path: Path) -> list[Path]:
    """Feature and box files."""
    return [
        file
        for location in locations(path).values()
        for file in (location.features, location.boxes)
        if file is not None
    ]


def locations(path: Path) -> dict[str, ArrayLocation]:
    """Image name -> its files."""
    boxes = {
        _stem(file): file
        for folder in _folders(path, BOX_FOLDERS)
        for file in _array_files(folder)
        if folder != path or file.stem.endswith(BOX_SUFFIXES)
    }
    locations: dict[str, ArrayLocation] = {}
    for folder in _folders(path, FEATURE_FOLDERS):
        for file in _array_files(folder):
            if not file.stem.endswith(BOX_SUFFIXES + IGNORED_SUFFIXES):
                locations.setdefault(file.stem, ArrayLocation(file, boxes.get(file.stem)))
    return dict(sorted(locations.items()))


def read(location: ArrayLocation) -> Regions:
    """The regions of one image."""
    is_npz = location.features.suffix == ".npz"
    arrays = _read_npz(location.features) if is_npz else {"features": map_region_array(location.features)}
    where = str(location.features)
    if "features" not in arrays:
        raise region_error(where, f"it has no array named {', '.join(KEYS['features'])}")
    size = None
    if "width" in arrays and "height" in arrays:
        size = (_to_float(where, arrays["width"]), _to_float(where, arrays["height"]))
    boxes = map_region_array(location.boxes) if location.boxes else arrays.get("boxes")
    if boxes is not None:
        boxes = _drop_batch_axis(boxes)
        boxes = boxes[:, :4] if boxes.ndim == 2 and boxes.shape[1] == 6 else boxes  # norm_bb has width and height last
    return Regions(
        where, _drop_batch_axis(arrays["features"]), boxes, size, arrays.get("scores"), arrays.get("classes")
    )


def _read_npz(file: Path) -> dict[str, Any]:
    """The arrays of the file that are in ``KEYS``; others, which may be pickled, are not loaded."""
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as opened:
            names = {key: next((n for n in aliases if n in opened), None) for key, aliases in KEYS.items()}
            return {key: opened[name] for key, name in names.items() if name is not None}
    except Exception as error:  # damaged archives and headers raise errors of any type
        raise region_error(str(file), f"it cannot be read as arrays: {error}") from error


def _folders(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """``path`` and its subfolders whose names end in one of ``suffixes``; for boxes also the folders next to it."""
    subfolders = (
        [f for f in path.iterdir() if f.is_dir() and f.name.lower().endswith(suffixes)] if path.is_dir() else []
    )
    if suffixes is not BOX_FOLDERS or not path.name.lower().endswith(FEATURE_FOLDERS):
        return [path, *sorted(subfolders)]
    stem = path.name.lower().removesuffix(next(t for t in FEATURE_FOLDERS if path.name.lower().endswith(t)))
    siblings = [path.with_name(path.name[: len(stem)] + suffix) for suffix in BOX_FOLDERS]
    return [path, *sorted(subfolders), *(folder for folder in siblings if folder.is_dir())]


def _array_files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:  # faster than glob; a hundred thousand files are common
        for entry in entries:
            if entry.name.endswith((".npy", ".npz")) and not entry.name.startswith(".") and is_file(entry):
                yield Path(entry.path)


def _stem(file: Path) -> str:
    """The image name of a box file."""
    suffix = next((suffix for suffix in BOX_SUFFIXES if file.stem.endswith(suffix)), "")
    return file.stem.removesuffix(suffix)


def _drop_batch_axis(values: np.ndarray) -> np.ndarray:
    """(1, regions, columns) -> (regions, columns); other arrays unchanged."""
    return values[0] if values.ndim == 3 and len(values) == 1 else values


def _to_float(where: str, value: np.ndarray) -> float:
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise region_error(where, "its image size is not a number")
    return float(value.reshape(-1)[0])
