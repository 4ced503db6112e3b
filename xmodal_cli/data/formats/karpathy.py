"""Karpathy's ``dataset_*.json`` beside the folder of images: Flickr8k, Flickr30k, COCO with ``restval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import find_pictures, only_file, read_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 10


def matches(path: Path) -> bool:
    """The JSON file itself, or the folder that holds it."""
    return only_file(path, "dataset*.json") is not None


def read(path: Path) -> tuple[Example, ...]:
    """Captions are the ``raw`` sentences; the id is ``cocoid`` where there is one, else the file's name."""
    file = only_file(path, "dataset*.json") or path
    content = read_json(file)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadData(f"{file} has no list of images", "Karpathy's files have the key 'images'")
    try:
        pictures = find_pictures(file.parent, _file_name(entries[0]))
        return tuple(_example(entry, pictures) for entry in entries)
    except (KeyError, TypeError, AttributeError) as error:
        wanted = "each needs filename, split and sentences with raw"
        raise BadData(f"{file} has an image without {error}", wanted) from error


def _example(entry: dict[str, Any], pictures: Path) -> Example:
    captions = tuple(sentence["raw"].strip() for sentence in entry["sentences"])
    image_id = str(entry.get("cocoid", entry["filename"]))
    return Example(image_id, pictures / _file_name(entry), captions, entry["split"])


def _file_name(entry: dict[str, Any]) -> str:
    folder = entry.get("filepath")
    return f"{folder}/{entry['filename']}" if folder else str(entry["filename"])
