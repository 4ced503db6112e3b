"""COCO's ``captions_*.json``: one file or a folder of them, with Karpathy's splits if ``dataset_coco.json`` exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import find_files, find_images
from xmodal_cli.data.text_files import field, read_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 15
SUFFIXES = (".json",)
PATTERN = "captions_*.json"
EXPECTED = "images need id and file_name, annotations need image_id and caption"


def matches(path: Path) -> bool:
    """A caption file, or a folder with caption files in it or in ``annotations/``."""
    return bool(_caption_files(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are COCO's image ids; splits are Karpathy's (with ``restval``), else from the file name. Raises BadData."""
    files = _caption_files(path)
    root = files[0].parent.parent if files[0].parent.name == "annotations" else files[0].parent
    splits = _karpathy_splits(root)
    return tuple(example for file in files for example in _read_file(file, root, splits))


def _read_file(file: Path, root: Path, splits: dict[str, str]) -> list[Example]:
    content = read_json(file)
    images: dict[str, str] = {}
    captions: dict[str, list[str]] = {}
    for position, image in _entries(file, content, "images"):
        try:
            images[str(field(image, "id", int, str))] = field(image, "file_name")
        except ValueError as error:
            raise BadData(f"{file}, image {position} {error}", EXPECTED) from error
    for position, annotation in _entries(file, content, "annotations"):
        try:
            image_id, caption = str(field(annotation, "image_id", int, str)), field(annotation, "caption")
        except ValueError as error:
            raise BadData(f"{file}, annotation {position} {error}", EXPECTED) from error
        if image_id not in images:
            raise BadData(f"{file}, annotation {position} is of image {image_id}, which is not listed", EXPECTED)
        captions.setdefault(image_id, []).append(caption.strip())
    name = file.stem.removeprefix("captions_")  # such as val2014
    split = name.rstrip("0123456789")
    folder = find_images(root, next(iter(images.values()), ""), name)
    return [Example(i, folder / n, tuple(captions.get(i, ())), splits.get(i, split)) for i, n in images.items()]


def _entries(file: Path, content: Any, key: str) -> list[tuple[int, Any]]:
    """The list at ``key`` with positions from 1, for messages."""
    try:
        return list(enumerate(field(content, key, list), 1))
    except ValueError as error:
        raise BadData(f"{file} {error}", EXPECTED) from error


def _karpathy_splits(root: Path) -> dict[str, str]:
    for file in (root / "dataset_coco.json", root / "annotations" / "dataset_coco.json"):
        if file.is_file():
            return dict(_karpathy_split(file, *pair) for pair in _entries(file, read_json(file), "images"))
    return {}


def _karpathy_split(file: Path, position: int, image: Any) -> tuple[str, str]:
    """(image id, split) of an entry."""
    try:
        return str(field(image, "cocoid", int, str)), field(image, "split")
    except ValueError as error:
        raise BadData(f"{file}, image {position} {error}", "each image needs cocoid and split") from error


def _caption_files(path: Path) -> list[Path]:
    return find_files(path, PATTERN) or find_files(path / "annotations", PATTERN)
