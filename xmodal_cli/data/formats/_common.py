"""Helpers of the dataset formats: parse captions, find files and images, assign splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.data.text_files import field, read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

# word in a file or folder name -> split
SPLITS = {"train": "train", "restval": "restval", "val": "val", "valid": "val", "dev": "val", "test": "test"}
SPLIT_LISTS = {"train": "train", "dev": "val", "val": "val", "test": "test"}  # word in a split list's name -> split


def parse_captions(entry: Any) -> tuple[str, ...]:
    """The captions at ``captions`` or ``caption``: a list, one string, or null for none. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("is not a JSON object")
    key = "captions" if "captions" in entry else "caption"
    if entry.get(key) is None:
        return ()
    value = field(entry, key, str, list)
    captions = [value] if isinstance(value, str) else value
    if not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"has {key!r} that are not strings")
    return tuple(caption.strip() for caption in captions)


def first_file(path: Path, pattern: str) -> Path | None:
    """The first of ``find_files``, or None."""
    return next(iter(find_files(path, pattern)), None)


def find_files(path: Path, pattern: str) -> list[Path]:
    """``path`` if it is a file that matches ``pattern``; for a folder the files in it that match, sorted by name."""
    if path.is_file():
        return [path] if path.match(pattern) else []
    return sorted(file for file in path.glob(pattern) if file.is_file() and not file.name.startswith("."))


def find_images(root: Path, example: str, default: str = "images") -> Path:
    """The folder that contains the file ``example``: ``root`` or one at most two levels below it.

    ``root/default`` if there is none: missing images are reported when they are opened.
    """
    children = _list_folders(root)
    folders = chain([root], children, (inner for folder in children for inner in _list_folders(folder)))
    return next((folder for folder in folders if (folder / example).is_file()), root / default)


def list_images(root: Path) -> Iterator[Path]:
    """All image files below ``root``, sorted within each folder; hidden files and folders are skipped.

    Camera RAW files and vector graphics are listed too: they are reported as unreadable, with a reason.
    """
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if is_listed_name(name))


def build_examples(file: Path, captions: Mapping[str, Sequence[str]]) -> tuple[Example, ...]:
    """Examples from ``captions``, image file name -> captions, that were read from ``file``. Raises BadData if empty.

    Splits are those of the official split lists in the same folder; an image in none of them is ``unused``. Without
    lists they are ``split_by_hash``.
    """
    if not captions:
        raise BadData(f"{file} contains no captions", "fetch it again")
    splits = _read_split_lists(file.parent)
    images = find_images(file.parent, next(iter(captions)))
    return tuple(
        Example(n, images / n, tuple(c), splits.get(n, "unused") if splits else split_by_hash(n))
        for n, c in captions.items()
    )


def _read_split_lists(folder: Path) -> dict[str, str]:
    """Image file name -> split, from ``*trainImages.txt``, ``*devImages.txt`` and ``*testImages.txt`` in a folder."""
    splits: dict[str, str] = {}
    for prefix, split in SPLIT_LISTS.items():
        for file in sorted(folder.glob(f"*{prefix}Images.txt")):
            splits |= dict.fromkeys(filter(None, map(str.strip, read_lines(file))), split)
    return splits


def split_by_hash(name: str) -> str:
    """The split of an image in a dataset without splits: 3/4 train, 1/8 val, 1/8 test, by the hash of its name."""
    eighth = hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0] % 8
    return {0: "val", 1: "test"}.get(eighth, "train")


def _list_folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:  # not readable
        return []
