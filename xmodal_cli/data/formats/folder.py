"""A folder of images without captions, for index, search, caption and features."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import list_images
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.types import Example

PRIORITY = 90
SPLIT = "all"


def matches(path: Path) -> bool:
    """A folder with an image in it or in its subfolders; camera RAW files and vector graphics alone do not count."""
    return path.is_dir() and any(is_image_name(image.name) for image in list_images(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are paths relative to the folder."""
    return tuple(Example(p.relative_to(path).as_posix(), p, (), SPLIT) for p in list_images(path))
