"""A zip of selected photos, written while it is sent: memory holds one block, and the disk nothing."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import QueryParams
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.printable import escape_unprintable
from xmodal_cli.retrieval.items import IndexedItem
from xmodal_cli.serve.photo_views import existing_file
from xmodal_cli.serve.problems import Busy, TooLarge

MAX_PHOTOS = 500
MAX_BYTES = 4 * 2**30
MAX_ARCHIVES = 2  # at a time
_BLOCK = 2**18


def read_keys(params: QueryParams) -> list[int]:
    """The distinct ids of a request. Raises ConfigError."""
    values = params.getlist("id")
    if not 0 < len(values) <= MAX_PHOTOS or not all(v.isascii() and v.isdigit() and len(v) < 18 for v in values):
        raise ConfigError(f"id takes the ids of 1 to {MAX_PHOTOS} photos", "for example: id=12&id=15")
    return list(dict.fromkeys(map(int, values)))


def existing_files(entries: Sequence[IndexedItem]) -> list[Path]:
    """The files of photos that exist. Raises MissingData without any, TooLarge."""
    files, size = [], 0
    for entry in entries:
        with contextlib.suppress(MissingData, OSError):
            files.append(existing_file(entry.item))
            size += files[-1].stat().st_size
    if not files:
        existing_file(entries[0].item)  # raises MissingData
    if size > MAX_BYTES:
        raise TooLarge(f"the photos have {size / 1e9:.1f} GB", f"select less than {MAX_BYTES / 1e9:.1f} GB")
    return files


class Archives:
    """Limits the archives that are sent at a time."""

    def __init__(self) -> None:
        self._num_sent = 0

    def response(self, files: Sequence[Path]) -> StreamingResponse:
        """The zip of files. Raises Busy."""
        if self._num_sent >= MAX_ARCHIVES:
            raise Busy("other archives are being sent", "try again when they are complete")
        self._num_sent += 1
        return _ArchiveResponse(files, self._end)

    def _end(self) -> None:
        self._num_sent -= 1


class _ArchiveResponse(StreamingResponse):
    def __init__(self, files: Sequence[Path], on_end: Callable[[], None]) -> None:
        headers = {"Content-Disposition": 'attachment; filename="photos.zip"'}
        super().__init__(zip_blocks(files), headers=headers, media_type="application/zip")
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()


def zip_blocks(files: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of a zip of ``files``, uncompressed; files that cannot be opened any more are left out."""
    out = _Output()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, file in zip(distinct_names(files), files, strict=True):
            source = _open(file)
            if source is None:
                continue
            with source, archive.open(_entry(file, name), "w") as entry:
                while block := source.read(_BLOCK):
                    entry.write(block)
                    yield out.take()
    yield out.take()


def distinct_names(files: Sequence[Path]) -> list[str]:
    """The names of files, with a number where two are equal, also if only their case differs."""
    names: list[str] = []
    used: set[str] = set()
    for file in files:
        name, number = escape_unprintable(file.name), 1
        while name.casefold() in used:
            number += 1
            name = f"{escape_unprintable(file.stem)}-{number}{escape_unprintable(file.suffix)}"
        used.add(name.casefold())
        names.append(name)
    return names


def _open(file: Path) -> BinaryIO | None:
    try:
        return open(file, "rb")
    except OSError:
        return None


def _entry(file: Path, name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo.from_file(file, name, strict_timestamps=False)


class _Output:
    """What ``zipfile`` writes to; it cannot seek."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def write(self, block: bytes, /) -> int:
        self._blocks.append(bytes(block))
        return len(block)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        """What was written since the last call."""
        found, self._blocks = b"".join(self._blocks), []
        return found
