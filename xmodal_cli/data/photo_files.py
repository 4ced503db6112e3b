"""Lists the photos in files, folders and glob patterns, in the order given, without duplicates. Opens no file."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.data.scan import scan
from xmodal_cli.errors import BadImage, Category, MissingData, XmodalError
from xmodal_cli.file_identity import NotRegularFile, check_regular
from xmodal_cli.paths import absolute_path


@dataclass(frozen=True)
class Photo:
    """A file, with its path as the user gave it; or a source without photos, with the error in ``problem``."""

    path: Path
    problem: XmodalError | None = None


def find_photos(sources: Sequence[Path]) -> list[Photo]:
    """The photos of ``sources``: files with any suffix, folders with all images in them, and glob patterns.

    A source that does not exist or has no image is one entry with a ``problem``.
    """
    photos: dict[Path, Photo] = {}
    for source in sources:
        for photo in _list_source(_expand_user(source)):
            photos.setdefault(absolute_path(photo.path), photo)
    return list(photos.values())


def _expand_user(source: Path) -> Path:
    try:
        return source.expanduser()
    except RuntimeError:  # ~USER of an unknown user
        return source


def _list_source(source: Path) -> Iterator[Photo]:
    try:
        mode = source.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in a name
        yield from _list_pattern(source, error)
        return
    if stat.S_ISDIR(mode):
        yield from _list_folder(source)
        return
    try:
        check_regular(source, mode)
        yield Photo(source)
    except NotRegularFile as error:
        yield Photo(source, _special_file(source, str(error.strerror)))


_HINT = "check the file, its permissions and its disk"


def _special_file(path: Path, reason: str) -> BadImage:
    return BadImage(f"{path} cannot be opened: {reason}", "give photos or folders of photos", Category.SPECIAL)


def _list_folder(folder: Path) -> Iterator[Photo]:
    root = absolute_path(folder)
    try:
        result = scan([root])
    except XmodalError as error:
        yield Photo(folder, error)
        return
    for file in result.files:
        yield Photo(folder / os.path.relpath(file.path, root))
    for problem in result.left_out:
        yield Photo(problem.path, BadImage(problem.reason, _HINT, problem.category, problem.may_change))


def _list_pattern(pattern: Path, error: OSError | ValueError) -> Iterator[Photo]:
    """The images and folders that match; ``error`` is reported for a path that is not a pattern."""
    if not glob.has_magic(str(pattern)):
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        yield Photo(pattern, MissingData(f"{pattern} cannot be read: {reason}", "check the spelling of the path"))
        return
    matches = sorted(map(Path, glob.glob(str(pattern), recursive=True)), key=os.fsencode)
    sources = [path for path in matches if path.is_dir() or is_listed_name(path.name)]
    if not sources:
        other = f"only {len(matches)} files of other kinds" if matches else "nothing"
        yield Photo(pattern, MissingData(f"{pattern} matches {other}", "check the spelling of the pattern"))
    for path in sources:
        yield from _list_source(path)
