"""A folder of images with caption files: ``a.txt`` next to ``a.jpg``, one caption per line."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import SPLITS, list_images, split_by_hash
from xmodal_cli.data.text_files import read_lines
from xmodal_cli.types import Example

PRIORITY = 60


def matches(path: Path) -> bool:
    """A folder with at least one image that has a caption file."""
    return path.is_dir() and any(image.with_suffix(".txt").is_file() for image in list_images(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are paths relative to the folder; splits are subfolders named train, val or test, else ``split_by_hash``."""
    images = list(list_images(path))
    has_split_folders = any(image.relative_to(path).parts[0] in SPLITS for image in images)
    return tuple(_read_image(image, path, has_split_folders) for image in images)


def _read_image(image: Path, root: Path, has_split_folders: bool) -> Example:
    relative = image.relative_to(root)
    caption_file = image.with_suffix(".txt")
    lines = read_lines(caption_file) if caption_file.is_file() else []
    captions = tuple(line.strip() for line in lines if line.strip())
    split = SPLITS.get(relative.parts[0], "unused") if has_split_folders else split_by_hash(relative.as_posix())
    return Example(relative.as_posix(), image, captions, split)
