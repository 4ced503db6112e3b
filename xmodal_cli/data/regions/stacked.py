"""One array per split, the format of the bottom-up features of SCAN (Lee et al. 2018) and VSE-infinity.

``train_ims.npy`` is (images, 36, dim) floats; ``train_ids.txt`` has one image name per line, or each name once per
caption of the image. Boxes are optional: ``train_boxes.npy`` or ``train_ims_bbx.npy``, (images, 36, 4), fractions or
pixels, with (width, height) in ``train_img_sizes.npy`` or ``train_ims_size.npy``, else of the dataset's images. Without
boxes a region is the full image. SCAN's names are COCO ids, and integers for Flickr30k, which VSE-infinity's
``id_mapping.json``, in the folder or its parent, maps to file names.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from xmodal_cli.data.region_records import Regions, map_region_array, region_error
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_errors import parse_json

PRIORITY = 10
ARRAY = "_ims.npy"
BOXES = ("_boxes.npy", "_ims_bbx.npy")
SIZES = ("_img_sizes.npy", "_ims_size.npy")
MAPPING = "id_mapping.json"


@dataclass(frozen=True, slots=True)
class StackedLocation:
    """A row of the arrays of a split, and their files."""

    array: Path
    boxes: Path | None
    sizes: Path | None
    row: int


def matches(path: Path) -> bool:
    """A file ``*_ims.npy``, or a folder with such files."""
    return bool(_array_files(path))


def files(path: Path) -> list[Path]:
    """Arrays, names, boxes, sizes and the mapping."""
    arrays = _array_files(path)
    related = [f for array in arrays for f in (array, _names_file(array), _boxes_file(array), _sizes_file(array))]
    return [file for file in (*related, _mapping_file(path)) if file is not None and file.is_file()]


def locations(path: Path) -> dict[str, StackedLocation]:
    """Image name -> its row. Raises MissingData without names, BadData if their number is not that of the rows."""
    mapping = _read_mapping(_mapping_file(path))
    rows: dict[str, StackedLocation] = {}
    for array in _array_files(path):
        for row, name in enumerate(_read_names(array)):
            location = StackedLocation(array, _boxes_file(array), _sizes_file(array), row)
            rows[name] = location
            if name in mapping:
                rows[mapping[name]] = location
    return rows


def read(location: StackedLocation) -> Regions:
    """The regions of one row."""
    where = f"{location.array} row {location.row}"
    boxes = map_region_array(location.boxes)[location.row] if location.boxes else None
    size = None
    if location.sizes:
        width, height = map_region_array(location.sizes)[location.row].reshape(-1)[:2]
        size = (float(width), float(height))
    return Regions(where, map_region_array(location.array)[location.row], boxes, size)


def _array_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name.endswith(ARRAY) else []
    return sorted(file for file in path.glob(f"*{ARRAY}") if not file.name.startswith("."))


def _related_file(array: Path, suffixes: tuple[str, ...]) -> Path | None:
    stem = array.name.removesuffix(ARRAY)
    return next((file for file in (array.with_name(stem + suffix) for suffix in suffixes) if file.is_file()), None)


def _names_file(array: Path) -> Path:
    return array.with_name(f"{array.name.removesuffix(ARRAY)}_ids.txt")


def _boxes_file(array: Path) -> Path | None:
    return _related_file(array, BOXES)


def _sizes_file(array: Path) -> Path | None:
    return _related_file(array, SIZES)


def _read_names(array: Path) -> list[str]:
    """The image name of each row. Raises MissingData, BadData."""
    file = _names_file(array)
    if not file.is_file():
        raise MissingData(
            f"{array} needs {file.name} in the same folder", "write one line per image, with its id or its file name"
        )
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise region_error(str(file), "it is not UTF-8 text") from error
    shape = map_region_array(array).shape
    if len(shape) != 3:
        raise region_error(str(array), f"it is {' x '.join(map(str, shape))}, not images x regions x dim")
    for row_names in (names, [name for name, _ in groupby(names)]):
        if len(row_names) == shape[0]:
            _check_lengths(array, shape[0])
            return row_names
    raise BadData(f"{file} has {len(names)} names and {array.name} has {shape[0]} rows", "use files that match")


def _check_lengths(array: Path, num_rows: int) -> None:
    for file in (_boxes_file(array), _sizes_file(array)):
        if file is not None and map_region_array(file).shape[:1] != (num_rows,):
            raise BadData(f"{file} does not have the {num_rows} rows of {array.name}", "use files that match")


def _mapping_file(path: Path) -> Path | None:
    folder = path.parent if path.is_file() else path
    return next((file for file in (folder / MAPPING, folder.parent / MAPPING) if file.is_file()), None)


def _read_mapping(file: Path | None) -> dict[str, str]:
    """Name in ``*_ids.txt`` -> image file name; empty without a mapping file. Raises BadData."""
    if file is None:
        return {}
    try:
        table = parse_json(file.read_text(encoding="utf-8"))
        return {str(key): Path(name).name for key, name in table.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise region_error(str(file), "it is not a JSON object of integers and file names") from error
