"""Lists the photos in files, folders and glob patterns, in the order given, without duplicates. Opens no file."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from xmodal_cli.data.exclusions import HIDDEN, IGNORE_FILE, Exclusions
from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.data.scan import scan
from xmodal_cli.errors import BadImage, Category, MissingData, XmodalError
from xmodal_cli.file_identity import NotRegularFile, check_regular
from xmodal_cli.paths import absolute_path, expand_home

_HINT = "check the file, its permissions and its disk"


@dataclass(frozen=True)
class Photo:
    """A file, with its path as the user gave it; or a source without photos, with the error in ``problem``."""

    path: Path
    problem: XmodalError | None = None


def find_photos(sources: Sequence[Path], exclude: Sequence[str] = ()) -> list[Photo]:
    """The photos of ``sources``: files with any suffix, folders with all images in them, and glob patterns.

    A source that does not exist or has no image is one entry with a ``problem``. Patterns of ``exclude``, in the syntax
    of ``.gitignore``, are relative to a folder of ``sources``, and for other files to the working folder. Raises
    ConfigError for an invalid pattern, MissingData if all photos are excluded.
    """
    lister, photos = _Lister(tuple(exclude)), dict[Path, Photo]()
    for source in sources:
        for photo in lister.list_source(expand_home(source)):
            photos.setdefault(absolute_path(photo.path), photo)
    if not photos and exclude:
        raise MissingData(f"all photos are excluded by --exclude {' '.join(exclude)}", "check the patterns")
    return list(photos.values())


class _Lister:
    """Lists the photos of one source after the other."""

    def __init__(self, exclude: tuple[str, ...]) -> None:
        self._exclude = exclude
        self._rules = Exclusions.of_patterns(str(absolute_path(Path())), exclude)

    def list_source(self, source: Path) -> Iterator[Photo]:
        """The photos of a file, a folder or a pattern."""
        try:
            mode = source.stat().st_mode
        except (OSError, ValueError) as error:  # ValueError: a zero byte in a name
            yield from self._list_pattern(source, error)
            return
        if stat.S_ISDIR(mode):
            yield from self._list_folder(source)
            return
        if self._rules.excludes_file(str(absolute_path(source))):
            return
        try:
            check_regular(source, mode)
            yield Photo(source)
        except NotRegularFile as error:
            yield Photo(source, _special_file(source, str(error.strerror)))

    def _list_folder(self, folder: Path) -> Iterator[Photo]:
        root = absolute_path(folder)
        try:
            result = scan([root], self._exclude)
        except XmodalError as error:
            yield Photo(folder, error)
            return
        for file in result.files:
            yield Photo(folder / os.path.relpath(file.path, root))
        for problem in result.left_out:
            yield Photo(problem.path, BadImage(problem.reason, _HINT, problem.category, problem.may_change))

    def _list_pattern(self, pattern: Path, error: OSError | ValueError) -> Iterator[Photo]:
        """The images and folders that match; ``error`` is reported for a path that is not a pattern."""
        if not glob.has_magic(str(pattern)):
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            yield Photo(pattern, MissingData(f"{pattern} cannot be read: {reason}", "check the spelling of the path"))
            return
        matches = sorted(map(Path, glob.glob(str(pattern), recursive=True)), key=os.fsencode)
        sources = [path for path in matches if path.is_dir() or is_listed_name(path.name)]
        sources = [path for path in sources if not _is_left_out(path, pattern)]
        if not sources:
            other = f"only {len(matches)} files of other kinds" if matches else "nothing"
            yield Photo(pattern, MissingData(f"{pattern} matches {other}", "check the spelling of the pattern"))
        for path in sources:
            yield from self.list_source(path)


def _special_file(path: Path, reason: str) -> BadImage:
    return BadImage(f"{path} cannot be opened: {reason}", "give photos or folders of photos", Category.SPECIAL)


def _is_left_out(match: Path, pattern: Path) -> bool:
    """Whether a match is, or is in, a folder of thumbnails and so on, or is named in an ignore file."""
    given = list(takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    folder = absolute_path(Path(*given))
    rules = Exclusions.below(str(folder))
    for name in match.parts[len(given) :]:
        if (folder / IGNORE_FILE).is_file():
            rules = rules.enter(str(folder))
        folder = folder / name
        if rules.reason(name, str(folder), folder.is_dir()) not in ("", HIDDEN):
            return True
    return False
