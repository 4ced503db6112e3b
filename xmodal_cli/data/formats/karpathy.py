"""Karpathy's ``dataset_*.json`` next to the folder of images: Flickr8k, Flickr30k, COCO with ``restval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import find_images, first_file
from xmodal_cli.data.text_files import field, read_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 10
SUFFIXES = (".json",)
PATTERN = "dataset[_.]*json"  # not the dataset-metadata.json that Kaggle adds


def matches(path: Path) -> bool:
    """The JSON file, or the folder that contains it."""
    return first_file(path, PATTERN) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Captions are the ``raw`` sentences; ids are ``cocoid`` if given, else the file name. Raises BadData."""
    file = first_file(path, PATTERN) or path
    content = read_json(file)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadData(f"{file} has no list of images", "Karpathy's files have the key 'images'")
    images = None
    examples = []
    for position, entry in enumerate(entries, 1):
        try:
            images = images or find_images(file.parent, _file_name(entry))
            examples.append(_example(entry, images))
        except ValueError as error:
            hint = "each image needs filename, split, and sentences with raw"
            raise BadData(f"{file}, image {position} {error}", hint) from error
    return tuple(examples)


def _example(entry: dict[str, Any], images: Path) -> Example:
    name = _file_name(entry)
    captions = tuple(field(sentence, "raw").strip() for sentence in field(entry, "sentences", list))
    image_id = str(field(entry, "cocoid" if "cocoid" in entry else "filename", int, str))
    return Example(image_id, images / name, captions, field(entry, "split"))


def _file_name(entry: dict[str, Any]) -> str:
    name: str = field(entry, "filename")
    return f"{field(entry, 'filepath')}/{name}" if entry.get("filepath") else name
