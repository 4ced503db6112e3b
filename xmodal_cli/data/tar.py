"""Random access to files in tar archives, with paths such as ``shard-000.tar/0001.jpg``.

An archive is indexed once; then members are read by seeking. Nothing is extracted. Archives must not be compressed:
a member of a compressed one can only be read after all bytes before it.
"""

from __future__ import annotations

import functools
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from xmodal_cli.errors import BadData

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
_HINT = "recreate it or download it again"
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Member:
    """Position of a file in an archive, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """The files of an archive: name -> position, in its order. ``problem``: why there may be others; "" for none.

    A damaged archive has the files before the damage.
    """

    members: dict[str, Member]
    problem: str = ""


def split_member(path: Path) -> tuple[Path, str] | None:
    """``shard.tar/a/b.jpg`` -> (``shard.tar``, ``a/b.jpg``); None for a path that is not in an archive."""
    for parent in path.parents:
        if parent.suffix == ".tar" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def index_archive(archive: Path) -> ArchiveIndex:
    """The regular files of an archive. Raises BadData if none can be read."""
    stat = archive.stat()
    with _lock:  # threads that need the same archive index it once
        index = _index_archive(archive, stat.st_mtime_ns, stat.st_size)
    if index.problem and not index.members:
        raise BadData(f"{archive} {index.problem}", _HINT)
    return index


def find_member(archive: Path, name: str) -> Member:
    """The position of one member. Raises BadData if the archive has no such member."""
    index = index_archive(archive)
    if (member := index.members.get(name)) is not None:
        return member
    if index.problem:
        raise BadData(f"{archive} {index.problem}", _HINT)
    raise BadData(f"{archive} has no member {name!r}", "list its members with: tar tf")


def read_member(archive: Path, name: str) -> bytes:
    """The bytes of one member. Raises BadData if the archive has no such member."""
    member = find_member(archive, name)
    with open(archive, "rb") as file:
        return read_bytes(file, member)


def read_bytes(file: BinaryIO, member: Member) -> bytes:
    """The bytes of a member of an archive that is already open."""
    file.seek(member.offset)
    return file.read(member.size)


@functools.lru_cache(maxsize=64)
def _index_archive(archive: Path, modified_ns: int, size: int) -> ArchiveIndex:
    # time and size are part of the cache key, so that a modified archive is indexed again
    members: dict[str, Member] = {}
    problem = ""
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                if info.isreg():
                    members[_normalize_name(info.name)] = Member(info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        problem = f"is not a readable tar archive: {error}"
    truncated = next((name for name, member in members.items() if member.offset + member.size > size), None)
    if truncated is not None:
        complete = {name: member for name, member in members.items() if member.offset + member.size <= size}
        return ArchiveIndex(complete, f"is not a readable tar archive: it is truncated, and ends inside {truncated!r}")
    return ArchiveIndex(members, problem)


def _normalize_name(name: str) -> str:
    """A member's name as a relative path: without ``./``, repeated slashes or a root."""
    return PurePosixPath(name.lstrip("/")).as_posix()
