"""A folder of pictures with captions beside them: ``a.jpg`` and ``a.txt``, a caption a line."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import SPLITS, images_below, invented_split
from xmodal_cli.data.text_files import read_lines
from xmodal_cli.types import Example

PRIORITY = 60


def matches(path: Path) -> bool:
    """A folder in which some picture has a text file of the same name."""
    return path.is_dir() and any(picture.with_suffix(".txt").is_file() for picture in images_below(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are paths below the folder; folders named train, val and test are splits, else splits are invented."""
    pictures = list(images_below(path))
    named = any(picture.relative_to(path).parts[0] in SPLITS for picture in pictures)
    return tuple(_example(picture, path, named) for picture in pictures)


def _example(picture: Path, root: Path, named: bool) -> Example:
    relative = picture.relative_to(root)
    beside = picture.with_suffix(".txt")
    lines = read_lines(beside) if beside.is_file() else []
    captions = tuple(line.strip() for line in lines if line.strip())
    split = SPLITS.get(relative.parts[0], "unused") if named else invented_split(relative.as_posix())
    return Example(relative.as_posix(), picture, captions, split)
