"""Random access to files in tar archives, with paths such as ``shard-000.tar/0001.jpg``.

An archive is indexed once; then members are read by seeking. Nothing is extracted.
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
    """Position of a file in an archive, in bytes."""

    offset: int
    size: int


def split_member(path: Path) -> tuple[Path, str] | None:
    """``shard.tar/a/b.jpg`` -> (``shard.tar``, ``a/b.jpg``); None for a path that is not in an archive."""
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def index_members(archive: Path) -> dict[str, Member]:
    """Name -> position of all regular files, in the archive's order. Raises BadData for a damaged archive."""
    stat = archive.stat()
    return _index_members(archive, stat.st_mtime_ns, stat.st_size)


def read_member(archive: Path, name: str) -> bytes:
    """The bytes of one member. Raises BadData if the archive has no such member."""
    member = index_members(archive).get(name)
    if member is None:
        raise BadData(f"{archive} has no member {name!r}", "list its members with: tar tf")
    with open(archive, "rb") as file:
        return read_bytes(file, member)


def read_bytes(file: BinaryIO, member: Member) -> bytes:
    """The bytes of a member of an archive that is already open."""
    file.seek(member.offset)
    return file.read(member.size)


@functools.lru_cache(maxsize=64)
def _index_members(archive: Path, modified_ns: int, size: int) -> dict[str, Member]:
    # time and size are part of the cache key, so that a modified archive is indexed again
    members: dict[str, Member] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                if info.isreg():
                    members[_normalize_name(info.name)] = Member(info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BadData(
            f"{archive} is not a readable tar archive: {error}", "recreate it or download it again"
        ) from error
    truncated = next((name for name, member in members.items() if member.offset + member.size > size), None)
    if truncated is not None:
        raise BadData(f"{archive} is truncated: it ends inside {truncated!r}", "recreate it or download it again")
    return members


def _normalize_name(name: str) -> str:
    """A member's name as a relative path: without ``./``, repeated slashes or a root."""
    return PurePosixPath(name.lstrip("/")).as_posix()
