"""Which pictures a person means by files, folders and patterns, in the order given, each once. Opens none of them."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.scan import scan
from xmodal_cli.errors import BadData, MissingData, XmodalError
from xmodal_cli.paths import absolute_path


@dataclass(frozen=True)
class Photo:
    """A file, named the way it was asked for, or what is wrong with what was asked for."""

    path: Path
    problem: XmodalError | None = None


def find_photos(sources: Sequence[Path]) -> list[Photo]:
    """Files as they are, whatever their names; folders with all pictures below them; patterns that no shell expanded.

    What is not there, or holds no picture, takes its place in the list with its ``problem``.
    """
    found: dict[Path, Photo] = {}
    for source in sources:
        for photo in _photos(_expanded(source)):
            found.setdefault(absolute_path(photo.path), photo)
    return list(found.values())


def _expanded(source: Path) -> Path:
    try:
        return source.expanduser()
    except RuntimeError:  # the home of nobody
        return source


def _photos(source: Path) -> Iterator[Photo]:
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in a name
        yield from _matching(source, error)
        return
    if stat.S_ISDIR(mode):
        yield from _below(source)
    elif stat.S_ISREG(mode):
        yield Photo(source)
    else:
        yield Photo(source, BadData(f"{source} is neither a file nor a folder", "give pictures or folders of them"))


def _below(folder: Path) -> Iterator[Photo]:
    root = absolute_path(folder)
    try:
        seen = scan([root])
    except XmodalError as error:
        yield Photo(folder, error)
        return
    for file in seen.files:
        yield Photo(folder / os.path.relpath(file.path, root))
    for place, reason in seen.blind.items():
        yield Photo(Path(place), MissingData(f"{place} cannot be read: {reason}", "check its permissions"))


def _matching(pattern: Path, error: OSError | ValueError) -> Iterator[Photo]:
    """What a pattern stands for: pictures by their names, and folders; what is no pattern is missing."""
    if not glob.has_magic(str(pattern)):
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        yield Photo(pattern, MissingData(f"{pattern} cannot be read: {reason}", "check the spelling of the path"))
        return
    names = sorted(map(Path, glob.glob(str(pattern), recursive=True)), key=os.fsencode)
    chosen = [path for path in names if path.is_dir() or is_image_name(path.name)]
    if not chosen:
        other = f"only {len(names)} files of other kinds" if names else "nothing"
        yield Photo(pattern, MissingData(f"{pattern} matches {other}", "check the spelling of the pattern"))
    for path in chosen:
        yield from _photos(path)
