"""Takes archives apart, inside their folder only: no member may lead out of it, and links are refused."""

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
    """Write the members of a zip or tar below ``folder``; returns how many. ``only`` keeps members of those names.

    Members that are there with the right size are passed over. Raises DownloadError for a damaged archive (which is
    removed, so that it is fetched again) and for one that is hostile; StorageError when the disk is full.
    """
    opened = _zip_members if archive.suffix == ".zip" else _tar_members
    count = 0
    try:
        with reporter.task(f"unpacking {archive.name}", None, "files") as task:
            for name, size, content in opened(archive):
                target = _inside(archive, folder, name)
                if only and target.name not in only:
                    continue
                if not (target.is_file() and target.stat().st_size == size):
                    with atomic_path(target) as draft, open(draft, "wb") as file:
                        shutil.copyfileobj(content, file)
                count += 1
                task.advance()
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise DownloadError(f"{archive} is damaged and was removed: {error}", "run the command again") from error
    if not count:
        raise DownloadError(f"{archive} holds none of {', '.join(only) or 'the files'}", "the source has changed")
    return count


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if (member.external_attr >> 16) & 0o170000 == LINK:
                raise _hostile(archive, member.filename, "is a link")
            if not member.is_dir():
                with opened.open(member) as content:
                    yield member.filename, member.file_size, content


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            if not (member.isfile() or member.isdir()):
                raise _hostile(archive, member.name, "is a link or a device")
            content = opened.extractfile(member)
            if content is not None:
                yield member.name, member.size, content


def _inside(archive: Path, folder: Path, name: str) -> Path:
    parts = PurePosixPath(name.replace("\\", "/"))
    target = folder.joinpath(*parts.parts)
    if parts.is_absolute() or ".." in parts.parts or ":" in name:
        raise _hostile(archive, name, "leads out of its folder")
    if not target.resolve().is_relative_to(folder.resolve()):
        raise _hostile(archive, name, "leads through a link out of its folder")
    return target


def _hostile(archive: Path, name: str, what: str) -> DownloadError:
    return DownloadError(f"{archive} is refused: its member {name!r} {what}", "do not use this archive")
