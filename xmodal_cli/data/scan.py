"""Lists the image files in folders with sizes and modification times; opens no file.

Files with the suffix of camera RAW or vector graphics are listed too: opening them fails with a reason, so that they
are counted like other files that cannot be read.

Folders are walked recursively, through symbolic links; each real folder is visited once, so that cycles end. Hidden
files and folders are skipped. A file given as a root is listed whatever its name. Names that are not UTF-8 are strings
with surrogate escapes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.errors import BadData, Category, MissingData
from xmodal_cli.file_identity import NotRegularFile, check_regular
from xmodal_cli.paths import absolute_path
from xmodal_cli.types import Unreadable


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An image file; ``size`` in bytes, modification time ``mtime_ns`` in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """The image files under ``roots``, sorted by path, and the folders that could not be read.

    ``left_out`` are image files that are known not to be readable without opening them: pipes and devices.
    """

    roots: tuple[str, ...]
    files: list[FoundFile] = field(default_factory=list)
    unreadable_folders: dict[str, str] = field(default_factory=dict)  # path -> reason
    left_out: list[Unreadable] = field(default_factory=list)
    num_non_images: int = 0


def is_under(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or inside it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def path_key(path: str) -> bytes:
    """Sort key of a path: its bytes, independent of the locale."""
    return os.fsencode(path)


def scan(roots: Sequence[Path]) -> Scan:
    """Walk files and folders. Raises MissingData if a root does not exist or there is no image."""
    result, visited = Scan(tuple(str(absolute_path(root.expanduser())) for root in roots)), set[tuple[int, int]]()
    files: dict[str, FoundFile] = {}
    for root in result.roots:
        try:
            status = Path(root).stat()
        except OSError as error:
            raise MissingData(
                f"{root} cannot be indexed: {(error.strerror or str(error)).lower()}",
                "check the spelling and that the disk is mounted; if it was deleted, index the folder above it",
            ) from error
        if stat.S_ISDIR(status.st_mode):
            files.update((f.path, f) for f in _walk(root, visited, result))
        elif _is_regular(root, status.st_mode, result):
            files[root] = FoundFile(root, status.st_size, status.st_mtime_ns)
    result.files = [files[path] for path in sorted(files, key=path_key)]
    _raise_if_empty(result)
    return result


def _raise_if_empty(result: Scan) -> None:
    if result.files:
        return
    if result.unreadable_folders:
        folder, reason = next(iter(result.unreadable_folders.items()))
        raise MissingData(f"{folder} cannot be read: {reason}", "check its permissions")
    if result.left_out:
        raise BadData(result.left_out[0].reason, "give photos or folders of photos")
    others = f"only {result.num_non_images} files of other kinds" if result.num_non_images else "no files at all"
    raise MissingData(
        f"there are no images in {', '.join(result.roots)}: {others}",
        "give a folder with .jpg, .png, .webp or .tif files; hidden files, whose names begin with a dot, are skipped",
    )


def _walk(root: str, visited: set[tuple[int, int]], result: Scan) -> Iterator[FoundFile]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: path_key(e.name), reverse=True)
        except OSError as error:
            result.unreadable_folders[folder] = error.strerror or str(error)
            continue
        for entry in entries:
            yield from _visit(entry, folders, result)


def _visit(entry: os.DirEntry[str], folders: list[str], result: Scan) -> Iterator[FoundFile]:
    """Yield the entry if it is an image, add it to ``folders`` if it is a folder."""
    if entry.name.startswith("."):
        return
    try:
        status = entry.stat()
    except OSError:  # deleted since the folder was listed, or a broken link
        return
    if stat.S_ISDIR(status.st_mode):
        folders.append(entry.path)
    elif not is_listed_name(entry.name):
        result.num_non_images += 1
    elif _is_regular(entry.path, status.st_mode, result):
        yield FoundFile(entry.path, status.st_size, status.st_mtime_ns)


def _is_regular(path: str, mode: int, result: Scan) -> bool:
    """Whether the file is not a pipe, socket or device; those are added to ``result.left_out``."""
    try:
        check_regular(path, mode)
    except NotRegularFile as error:
        reason = f"{path} cannot be opened: {error.strerror}"
        result.left_out.append(Unreadable(Path(path), reason, Category.SPECIAL))
        return False
    return True
