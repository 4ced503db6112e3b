"""Files inside tar archives, named by paths such as ``shard-000.tar/0001.jpg``.

Members are found once per archive and then read by seeking; nothing is ever extracted.
"""

from __future__ import annotations

import functools
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from xmodal_cli.errors import BadData


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file's bytes lie in an archive."""

    offset: int
    size: int


def split_member(path: Path) -> tuple[Path, str] | None:
    """``shard.tar/a/b.jpg`` -> (``shard.tar``, ``a/b.jpg``); None for a path that is in no archive."""
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def members(archive: Path) -> dict[str, Member]:
    """Name -> place of every plain file, in the archive's order. Raises BadData for a damaged archive."""
    stat = archive.stat()
    return _members(archive, stat.st_mtime_ns, stat.st_size)


def read_member(archive: Path, name: str) -> bytes:
    """The bytes of one member. Raises BadData where the archive has no such member."""
    place = members(archive).get(name)
    if place is None:
        raise BadData(f"{archive} holds no member {name!r}", "list what it holds with: tar tf")
    with open(archive, "rb") as file:
        return read_at(file, place)


def read_at(file: BinaryIO, place: Member) -> bytes:
    """The bytes of a member of an archive that is already open."""
    file.seek(place.offset)
    return file.read(place.size)


@functools.lru_cache(maxsize=64)
def _members(archive: Path, modified_ns: int, size: int) -> dict[str, Member]:
    # the time and size are part of the key, so that a rewritten archive is looked at afresh
    found: dict[str, Member] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                if info.isreg():
                    found[_clean(info.name)] = Member(info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BadData(f"{archive} is not a readable tar archive: {error}", "make or download it again") from error
    broken = next((name for name, place in found.items() if place.offset + place.size > size), None)
    if broken is not None:
        raise BadData(f"{archive} is truncated: it ends inside {broken!r}", "make or download it again")
    return found


def _clean(name: str) -> str:
    """A member's name as a path below the archive: without ``./``, doubled slashes or a root."""
    return PurePosixPath(name.lstrip("/")).as_posix()
