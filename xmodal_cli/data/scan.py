"""Which pictures stand under some folders: names, sizes and times, nothing is opened. Knows no index.

Folders are walked to any depth, through symbolic links, each real folder once, so that loops end. Hidden
files and folders are passed over. A file named outright is taken whatever its name. Names that are no
UTF-8 travel as Python's surrogate escapes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.errors import MissingData
from xmodal_cli.paths import absolute_path


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A picture file as the folder lists it; ``size`` in bytes, ``mtime_ns`` in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """What a walk found, sorted by path; ``blind`` are places that could not be looked into, with the reason."""

    roots: tuple[str, ...]
    files: list[FoundFile] = field(default_factory=list)
    blind: dict[str, str] = field(default_factory=dict)
    num_others: int = 0  # files that are no pictures


def is_under(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or lies inside it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def path_key(path: str) -> bytes:
    """What paths are sorted by: their bytes, the same on every machine and in every language."""
    return os.fsencode(path)


def scan(roots: Sequence[Path]) -> Scan:
    """Walk files and folders. Raises MissingData for a root that is not there, or if there is no picture at all."""
    result, seen = Scan(tuple(str(absolute_path(root.expanduser())) for root in roots)), set[tuple[int, int]]()
    found: dict[str, FoundFile] = {}
    for root in result.roots:
        try:
            status = Path(root).stat()
        except OSError as error:
            raise MissingData(
                f"{root} cannot be indexed: {(error.strerror or str(error)).lower()}",
                "check the spelling and that the disk is mounted; if it was deleted, index the folder above it",
            ) from error
        if stat.S_ISDIR(status.st_mode):
            found.update((f.path, f) for f in _walk(root, seen, result))
        else:
            found[root] = FoundFile(root, status.st_size, status.st_mtime_ns)
    result.files = [found[path] for path in sorted(found, key=path_key)]
    _refuse_empty(result)
    return result


def _refuse_empty(seen: Scan) -> None:
    if seen.files:
        return
    if seen.blind:
        folder, reason = next(iter(seen.blind.items()))
        raise MissingData(f"{folder} cannot be read: {reason}", "check its permissions")
    others = f"only {seen.num_others} files of other kinds" if seen.num_others else "no files at all"
    raise MissingData(
        f"there are no pictures in {', '.join(seen.roots)}: it holds {others}",
        "give a folder with .jpg, .png, .webp or .tif files; files whose name begins with a dot are passed over",
    )


def _walk(root: str, seen: set[tuple[int, int]], result: Scan) -> Iterator[FoundFile]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: path_key(e.name), reverse=True)
        except OSError as error:
            result.blind[folder] = error.strerror or str(error)
            continue
        for entry in entries:
            yield from _look(entry, folders, result)


def _look(entry: os.DirEntry[str], folders: list[str], result: Scan) -> Iterator[FoundFile]:
    """Yield the entry if it is a picture, queue it if it is a folder."""
    if entry.name.startswith("."):
        return
    try:
        status = entry.stat()
    except OSError:  # gone since the folder was listed, or a link to nowhere
        return
    if stat.S_ISDIR(status.st_mode):
        folders.append(entry.path)
    elif stat.S_ISREG(status.st_mode) and is_image_name(entry.name):
        yield FoundFile(entry.path, status.st_size, status.st_mtime_ns)
    else:
        result.num_others += 1
