"""What several formats share: reading text and JSON with sentences for errors, finding pictures, inventing splits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodal_cli.data.images import is_image_name
from xmodal_cli.errors import BadData


def read_text(file: Path) -> str:
    """The text of a UTF-8 file. Raises BadData."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"{file} cannot be read as UTF-8 text: {error}", "fetch or save the file again") from error


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises BadData."""
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise BadData(f"{file} is not valid JSON: {error}", "it may be cut short; fetch it again") from error


def only_file(path: Path, pattern: str) -> Path | None:
    """``path`` itself if it matches, or the first file in the folder ``path`` that does."""
    if path.is_file():
        return path if path.match(pattern) else None
    return min((f for f in path.glob(pattern) if f.is_file()), default=None)


def find_pictures(root: Path, example: str) -> Path:
    """The folder at or below ``root``, at most two levels down, in which the file ``example`` is.

    Where it is nowhere, ``root/images``: files that are missing are told when they are looked for.
    """
    folders = [root, *_folders(root)]
    for folder in [*folders, *(inner for outer in folders[1:] for inner in _folders(outer))]:
        if (folder / example).is_file():
            return folder
    return root / "images"


def pictures_below(root: Path) -> Iterator[Path]:
    """Every picture file below ``root``, folder by folder in order; hidden folders are passed over."""
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if is_image_name(name))


def invented_split(name: str) -> str:
    """A split for a picture whose dataset has none: 3/4 train, 1/8 val, 1/8 test, by the hash of its name."""
    eighth = hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0] % 8
    return {0: "val", 1: "test"}.get(eighth, "train")


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
