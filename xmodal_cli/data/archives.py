"""Extracts zip and tar archives. Links and members with paths outside the target folder are errors."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from xmodal_cli.errors import DownloadError
from xmodal_cli.paths import atomic_path
from xmodal_cli.reporter import Reporter

LINK = 0o120000  # file type bits of a symbolic link, in a zip entry's upper attributes


def extract(archive: Path, folder: Path, only: tuple[str, ...], reporter: Reporter) -> int:
    """Extract a zip or tar archive into ``folder``; returns the number of files. ``only`` limits the file names.

    Files that already exist with the same size are skipped. Raises DownloadError for a damaged archive (which is
    deleted, so that it is fetched again) and for an unsafe one; StorageError if the disk is full.
    """
    list_members = _zip_members if archive.suffix == ".zip" else _tar_members
    count = 0
    try:
        with reporter.task(f"unpacking {archive.name}", None, "files") as task:
            for name, size, content in list_members(archive):
                target = _target_path(archive, folder, name)
                if only and target.name not in only:
                    continue
                if not (target.is_file() and target.stat().st_size == size):
                    with atomic_path(target) as draft, open(draft, "wb") as file:
                        shutil.copyfileobj(content, file)
                count += 1
                task.advance()
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise DownloadError(f"{archive} is damaged and was deleted: {error}", "run the command again") from error
    if not count:
        raise DownloadError(
            f"{archive} does not contain {', '.join(only) or 'any files'}",
            "the source has changed; `xmodal data add` registers a copy that you have",
        )
    return count


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if (member.external_attr >> 16) & 0o170000 == LINK:
                raise _unsafe_member(archive, member.filename, "is a link")
            if not member.is_dir():
                with opened.open(member) as content:
                    yield member.filename, member.file_size, content


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if not (member.isfile() or member.isdir()):
                raise _unsafe_member(archive, member.name, "is a link or a device")
            content = opened.extractfile(member)
            if content is not None:
                yield member.name, member.size, content


def _target_path(archive: Path, folder: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/"))
    target = folder.joinpath(*parts.parts)
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise _unsafe_member(archive, name, "has a path outside the folder")
    if not target.resolve().is_relative_to(folder.resolve()):
        raise _unsafe_member(archive, name, "has a path through a link to outside the folder")
    return target


def _unsafe_member(archive: Path, name: str, problem: str) -> DownloadError:
    return DownloadError(f"{archive} is not safe to extract: its member {name!r} {problem}", "do not use this archive")
