"""A bare folder of pictures, without captions: enough for index, search, caption and features."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import images_below
from xmodal_cli.types import Example

PRIORITY = 90
SPLIT = "all"


def matches(path: Path) -> bool:
    """A folder with a picture somewhere below it."""
    return path.is_dir() and next(images_below(path), None) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Ids are paths below the folder."""
    return tuple(Example(p.relative_to(path).as_posix(), p, (), SPLIT) for p in images_below(path))
