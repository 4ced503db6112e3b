"""What several formats share: reading text and JSON with sentences for errors, finding pictures, inventing splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import field, read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

# the word in the name of a file or folder -> its split
SPLITS = {"train": "train", "restval": "restval", "val": "val", "valid": "val", "dev": "val", "test": "test"}
LISTS = {"train": "train", "dev": "val", "val": "val", "test": "test"}  # the word in a list's name -> its split


def caption_list(entry: Any) -> tuple[str, ...]:
    """The texts at ``captions`` or ``caption``: a list, one text, or null for none. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("is not an object with keys")
    key = "captions" if "captions" in entry else "caption"
    if entry.get(key) is None:
        return ()
    found = field(entry, key, str, list)
    captions = [found] if isinstance(found, str) else found
    if not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"has {key!r} that are not texts")
    return tuple(caption.strip() for caption in captions)


def only_file(path: Path, pattern: str) -> Path | None:
    """``path`` itself if it matches, or the first file in the folder ``path`` that does."""
    return next(iter(all_files(path, pattern)), None)


def all_files(path: Path, pattern: str) -> list[Path]:
    """``path`` itself if it matches, or all files in the folder ``path`` that do, by name."""
    if path.is_file():
        return [path] if path.match(pattern) else []
    return sorted(file for file in path.glob(pattern) if file.is_file() and not file.name.startswith("."))


def find_images(root: Path, example: str, otherwise: str = "images") -> Path:
    """The folder at or below ``root``, at most two levels down, in which the file ``example`` is.

    Where it is nowhere, ``root/otherwise``: files that are missing are told when they are looked for.
    """
    outer = _folders(root)
    folders = chain([root], outer, (inner for folder in outer for inner in _folders(folder)))
    return next((folder for folder in folders if (folder / example).is_file()), root / otherwise)


def images_below(root: Path) -> Iterator[Path]:
    """Every picture file below ``root``, folder by folder in order; hidden folders are passed over."""
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if is_image_name(name))


def listed_examples(file: Path, captions: Mapping[str, Sequence[str]]) -> tuple[Example, ...]:
    """Examples of pictures that ``file`` names, with the splits of the official lists beside it.

    A picture in no list is ``unused``; without any list the splits are invented. Raises BadData without captions.
    """
    if not captions:
        raise BadData(f"{file} holds no captions", "fetch it again")
    splits = _split_lists(file.parent)
    pictures = find_images(file.parent, next(iter(captions)))
    return tuple(
        Example(n, pictures / n, tuple(c), splits.get(n, "unused") if splits else invented_split(n))
        for n, c in captions.items()
    )


def _split_lists(folder: Path) -> dict[str, str]:
    """Name -> split, from the files ``*trainImages.txt``, ``*devImages.txt`` and ``*testImages.txt`` of a folder."""
    found: dict[str, str] = {}
    for prefix, split in LISTS.items():
        for file in sorted(folder.glob(f"*{prefix}Images.txt")):
            found |= dict.fromkeys(filter(None, map(str.strip, read_lines(file))), split)
    return found


def invented_split(name: str) -> str:
    """A split for a picture whose dataset has none: 3/4 train, 1/8 val, 1/8 test, by the hash of its name."""
    eighth = hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0] % 8
    return {0: "val", 1: "test"}.get(eighth, "train")


def _folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:  # not ours to read
        return []
