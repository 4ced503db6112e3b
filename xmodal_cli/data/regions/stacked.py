"""All images of a split in one array, as SCAN (Lee et al. 2018) and VSE-infinity published their bottom-up features.

``train_ims.npy`` is (images, 36, dim) floats and ``train_ids.txt`` names each image, a line each; or names are
repeated for each caption of an image. Boxes are optional: ``train_boxes.npy`` or ``train_ims_bbx.npy``, (images,
36, 4), as shares or in pixels, with the pictures' (width, height) in ``train_img_sizes.npy`` or
``train_ims_size.npy`` or else those of the dataset's pictures. Without them a region is the whole picture. SCAN's
names are COCO's ids, and numbers for Flickr30k: VSE-infinity's ``id_mapping.json``, in the folder or above it, says
of which file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from xmodal_cli.data.region_records import Regions, bad, map_region_array
from xmodal_cli.errors import BadData, MissingData

PRIORITY = 10
ARRAY = "_ims.npy"
BOXES = ("_boxes.npy", "_ims_bbx.npy")
SIZES = ("_img_sizes.npy", "_ims_size.npy")
MAPPING = "id_mapping.json"


@dataclass(frozen=True, slots=True)
class StackedLocation:
    """A row of the arrays of a split."""

    array: Path
    boxes: Path | None
    sizes: Path | None
    row: int


def matches(path: Path) -> bool:
    """A folder with ``*_ims.npy``, or such a file."""
    return bool(_arrays(path))


def files(path: Path) -> list[Path]:
    """Arrays, names, boxes, sizes and the mapping."""
    found = [file for array in _arrays(path) for file in (array, _names_file(array), _boxes(array), _sizes(array))]
    return [file for file in (*found, _mapping_file(path)) if file is not None and file.is_file()]


def places(path: Path) -> dict[str, StackedLocation]:
    """Image name -> its row. Raises MissingData without names, BadData where they are not as many as rows."""
    mapping = _read_mapping(_mapping_file(path))
    found: dict[str, StackedLocation] = {}
    for array in _arrays(path):
        for row, name in enumerate(_names(array)):
            place = StackedLocation(array, _boxes(array), _sizes(array), row)
            found[name] = place
            if name in mapping:
                found[mapping[name]] = place
    return found


def read(place: StackedLocation) -> Regions:
    """The regions of one row."""
    where = f"{place.array} row {place.row}"
    boxes = map_region_array(place.boxes)[place.row] if place.boxes else None
    size = None
    if place.sizes:
        width, height = map_region_array(place.sizes)[place.row].reshape(-1)[:2]
        size = (float(width), float(height))
    return Regions(where, map_region_array(place.array)[place.row], boxes, size)


def _arrays(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name.endswith(ARRAY) else []
    return sorted(file for file in path.glob(f"*{ARRAY}") if not file.name.startswith("."))


def _beside(array: Path, tails: tuple[str, ...]) -> Path | None:
    stem = array.name.removesuffix(ARRAY)
    return next((file for file in (array.with_name(stem + tail) for tail in tails) if file.is_file()), None)


def _names_file(array: Path) -> Path:
    return array.with_name(f"{array.name.removesuffix(ARRAY)}_ids.txt")


def _boxes(array: Path) -> Path | None:
    return _beside(array, BOXES)


def _sizes(array: Path) -> Path | None:
    return _beside(array, SIZES)


def _names(array: Path) -> list[str]:
    """A name for each row."""
    file = _names_file(array)
    if not file.is_file():
        raise MissingData(
            f"{array} needs {file.name} beside it", "a line for each image, with its id or its file's name"
        )
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise bad(str(file), "it is not UTF-8 text") from error
    shape = map_region_array(array).shape
    if len(shape) != 3:
        raise bad(str(array), f"it is {' x '.join(map(str, shape))}, not images x regions x dim")
    for each in (names, [name for name, _ in groupby(names)]):
        if len(each) == shape[0]:
            _check_lengths(array, shape[0])
            return each
    raise BadData(f"{file} names {len(names)} images and {array.name} has {shape[0]} rows", "give files that match")


def _check_lengths(array: Path, rows: int) -> None:
    for file in (_boxes(array), _sizes(array)):
        if file is not None and map_region_array(file).shape[:1] != (rows,):
            raise BadData(f"{file} is not of the {rows} images of {array.name}", "give files that match")


def _mapping_file(path: Path) -> Path | None:
    folder = path.parent if path.is_file() else path
    return next((file for file in (folder / MAPPING, folder.parent / MAPPING) if file.is_file()), None)


def _read_mapping(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        return {str(number): Path(name).name for number, name in table.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise bad(str(file), "it is not a JSON table of numbers and file names") from error
