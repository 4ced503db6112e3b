"""COCO's ``captions_*.json``: one file or a folder of them, with Karpathy's splits if ``dataset_coco.json`` exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import RowLog, find_files
from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.json_starts import is_coco
from xmodal_cli.data.text_files import field, read_json
from xmodal_cli.errors import BadData
from xmodal_cli.splits import split_in_name
from xmodal_cli.types import Example

PRIORITY = 15
SUFFIXES = (".json", ".gz")
PATTERNS = ("captions_*.json", "captions_*.json.gz")
EXPECTED = "images need id and file_name, annotations need image_id and caption"


def matches(path: Path) -> bool:
    """A caption file, also under another name, or a folder with caption files in it or in ``annotations/``."""
    return bool(_caption_files(path))


def read(path: Path) -> DatasetContents:
    """Ids are COCO's image ids; splits are Karpathy's (with ``restval``), else from the file name. Raises BadData.

    Images are looked up first in the folder that is named like the file: ``val2014`` for ``captions_val2014.json``.
    """
    files = _caption_files(path)
    root = files[0].parent.parent if files[0].parent.name == "annotations" else files[0].parent
    splits = _karpathy_splits(root)
    log = RowLog()
    images = [image for file in files for image in _read_file(file, log)]
    paths = locate_images(root, [(name, folder) for _, name, folder, _ in images], default=None)
    examples = [
        Example(image_id, image, captions, splits.get(image_id, folder.rstrip("0123456789")))
        for (image_id, _, folder, captions), image in zip(images, paths, strict=True)
    ]
    return log.contents(examples, files[0], EXPECTED)


def _read_file(file: Path, log: RowLog) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """(image id, file name, folder, captions) of each image."""
    content = read_json(file)
    images: dict[str, str] = {}
    captions: dict[str, list[str]] = {}
    for position, image in _entries(file, content, "images"):
        try:
            images[str(field(image, "id", int, str))] = field(image, "file_name")
        except ValueError as error:
            log.skip(f"{file}, image {position}", str(error))
    for position, annotation in _entries(file, content, "annotations"):
        try:
            image_id, caption = str(field(annotation, "image_id", int, str)), field(annotation, "caption")
            if image_id not in images:
                raise ValueError(f"is of image {image_id}, which is not listed")
            captions.setdefault(image_id, []).append(caption.strip())
        except ValueError as error:
            log.skip(f"{file}, annotation {position}", str(error))
    stem = file.name.partition(".")[0]
    folder = stem.removeprefix("captions_")  # such as val2014
    if folder == stem:
        folder = split_in_name(stem) or "train"
    return [(i, name, folder, tuple(captions.get(i, ()))) for i, name in images.items()]


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
    if path.is_file():
        is_json = path.name.lower().endswith((".json", ".json.gz"))
        return find_files(path, *PATTERNS) or ([path] if is_json and is_coco(path) else [])
    return find_files(path, *PATTERNS) or find_files(path / "annotations", *PATTERNS)
