"""Karpathy's ``dataset_*.json`` next to the folder of images: Flickr8k, Flickr30k, COCO with ``restval``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.caption_columns import caption_values
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import RowLog, first_file
from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.json_starts import is_karpathy
from xmodal_cli.data.text_files import field, read_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 10
SUFFIXES = (".json", ".gz")
PATTERNS = ("dataset[_.]*json", "dataset[_.]*json.gz")  # not the dataset-metadata.json that Kaggle adds
EXPECTED = "each image needs filename, split, and sentences with raw"


def matches(path: Path) -> bool:
    """The JSON file, also under another name, or the folder that contains it."""
    return _file(path) is not None


def read(path: Path) -> DatasetContents:
    """Captions are the ``raw`` sentences; ids are ``cocoid`` if given, else the file name. Raises BadData."""
    file = _file(path) or path
    content = read_json(file)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadData(f"{file} has no list of images", "Karpathy's files have the key 'images'")
    log = RowLog()
    parsed = []
    for position, entry in enumerate(entries, 1):
        try:
            parsed.append(_parse_entry(entry))
        except ValueError as error:
            log.skip(f"{file}, image {position}", str(error))
    paths = locate_images(file.parent, [(name, split) for _, name, _, split in parsed])
    examples = [
        Example(image_id, image, captions, split)
        for (image_id, _, captions, split), image in zip(parsed, paths, strict=True)
    ]
    return log.contents(examples, file, EXPECTED)


def _parse_entry(entry: dict[str, Any]) -> tuple[str, str, tuple[str, ...], str]:
    """(image id, file name, captions, split). Raises ValueError."""
    name: str = field(entry, "filename")
    captions = caption_values([field(sentence, "raw") for sentence in field(entry, "sentences", list)], "raw")
    image_id = str(field(entry, "cocoid" if "cocoid" in entry else "filename", int, str))
    path = f"{field(entry, 'filepath')}/{name}" if entry.get("filepath") else name
    return image_id, path, captions, field(entry, "split")


def _file(path: Path) -> Path | None:
    named = next((file for pattern in PATTERNS if (file := first_file(path, pattern)) is not None), None)
    is_json = named is None and path.is_file() and path.name.lower().endswith((".json", ".json.gz"))
    return path if is_json and is_karpathy(path) else named
