"""One ``.npz`` or ``.npy`` file per image, named by the image's id or its file's name without ending.

``.npz`` as TERN (Messina et al. 2020), the self-critical code and PyTorch ports of bottom-up attention write them:
features under ``features``, ``feat``, ``feats`` or ``x``, boxes under ``boxes``, ``bbox`` or ``norm_bb``, the
picture's size under ``image_w`` and ``image_h``, also scores and classes (``KEYS`` below). ``.npy`` holds features
alone. Boxes may be in files of their own: ``ID_box.npy``, ``ID_bbox.npy`` or ``ID_boxes.npy`` beside, or ``ID.npy``
in a folder that ends in ``box``, ``bbox`` or ``boxes`` next to the features or to their folder (``cocobu_att``,
``cocobu_box``). Boxes in pixels without a size take that of the dataset's picture; without boxes a region is the
whole picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.region_records import Regions, bad, map_region_array

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
BOX_TAILS = ("_box", "_bbox", "_boxes")
FOREIGN = ("_info",)  # pickled tables beside features; never read


@dataclass(frozen=True, slots=True)
class ArrayLocation:
    """The file of an image's features, and of its boxes where they are apart."""

    features: Path
    boxes: Path | None


def matches(path: Path) -> bool:
    """A folder with at least one file of features."""
    return path.is_dir() and any(True for folder in _folders(path, FEATURE_FOLDERS) for _ in _arrays(folder))


def files(path: Path) -> list[Path]:
    """Features and boxes."""
    return [file for place in places(path).values() for file in (place.features, place.boxes) if file is not None]


def places(path: Path) -> dict[str, ArrayLocation]:
    """Image name -> its files."""
    boxes = {
        _stem(file): file
        for folder in _folders(path, BOX_FOLDERS)
        for file in _arrays(folder)
        if folder != path or file.stem.endswith(BOX_TAILS)
    }
    found: dict[str, ArrayLocation] = {}
    for folder in _folders(path, FEATURE_FOLDERS):
        for file in _arrays(folder):
            if not file.stem.endswith(BOX_TAILS + FOREIGN):
                found.setdefault(file.stem, ArrayLocation(file, boxes.get(file.stem)))
    return dict(sorted(found.items()))


def read(place: ArrayLocation) -> Regions:
    """The regions of one image."""
    is_npz = place.features.suffix == ".npz"
    arrays = _read_npz(place.features) if is_npz else {"features": map_region_array(place.features)}
    where = str(place.features)
    if "features" not in arrays:
        raise bad(where, f"it has no array called {', '.join(KEYS['features'])}")
    size = None
    if "width" in arrays and "height" in arrays:
        size = (_number(where, arrays["width"]), _number(where, arrays["height"]))
    boxes = map_region_array(place.boxes) if place.boxes else arrays.get("boxes")
    if boxes is not None:
        boxes = _two_axes(boxes)
        boxes = boxes[:, :4] if boxes.ndim == 2 and boxes.shape[1] == 6 else boxes  # norm_bb goes on with two sides
    return Regions(where, _two_axes(arrays["features"]), boxes, size, arrays.get("scores"), arrays.get("classes"))


def _read_npz(file: Path) -> dict[str, Any]:
    """What of ``KEYS`` the file holds; other arrays, such as pickled ones, are not touched."""
    try:
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as opened:
            held = {what: next((n for n in names if n in opened), None) for what, names in KEYS.items()}
            return {what: opened[name] for what, name in held.items() if name is not None}
    except Exception as error:  # archives and headers are damaged in many ways
        raise bad(str(file), f"it cannot be read as arrays: {error}") from error


def _folders(path: Path, tails: tuple[str, ...]) -> list[Path]:
    """``path``, and the folders in it whose names end in one of ``tails``; for boxes also those beside it."""
    inside = sorted(f for f in path.iterdir() if f.is_dir() and f.name.lower().endswith(tails)) if path.is_dir() else []
    if tails is not BOX_FOLDERS or not path.name.lower().endswith(FEATURE_FOLDERS):
        return [path, *inside]
    stem = path.name.lower().removesuffix(next(t for t in FEATURE_FOLDERS if path.name.lower().endswith(t)))
    beside = [path.with_name(path.name[: len(stem)] + tail) for tail in BOX_FOLDERS]
    return [path, *inside, *(folder for folder in beside if folder.is_dir())]


def _arrays(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:  # a hundred thousand files are common
        for entry in entries:
            if entry.name.endswith((".npy", ".npz")) and not entry.name.startswith(".") and entry.is_file():
                yield Path(entry.path)


def _stem(file: Path) -> str:
    tail = next((tail for tail in BOX_TAILS if file.stem.endswith(tail)), "")
    return file.stem.removesuffix(tail)


def _two_axes(values: np.ndarray) -> np.ndarray:
    """Without a first axis of one image."""
    return values[0] if values.ndim == 3 and len(values) == 1 else values


def _number(where: str, value: np.ndarray) -> float:
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise bad(where, "its picture's size is not a number")
    return float(value.reshape(-1)[0])
