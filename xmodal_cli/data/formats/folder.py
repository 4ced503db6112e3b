"""A folder of images without captions, for index, search, caption and features."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import list_images
from xmodal_cli.types import Example

PRIORITY = 90
SPLIT = "all"


def matches(path: Path) -> bool:
    """A folder with an image in it or in its subfolders."""
    return path.is_dir() and next(list_images(path), None) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Ids are paths relative to the folder."""
    return tuple(Example(p.relative_to(path).as_posix(), p, (), SPLIT) for p in list_images(path))
