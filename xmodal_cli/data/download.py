"""Fetches a file so that nothing half-done is ever taken for whole: resumes, retries, checks, then renames."""

from __future__ import annotations

import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import cast

from xmodal_cli.data.sources import RemoteFile
from xmodal_cli.errors import DownloadError, StorageError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.paths import storage_errors
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.version import __version__

CHUNK = 2**20  # bytes
ATTEMPTS = 5  # in a row without a byte of progress
PATIENCE = 1.0  # seconds before the second attempt; doubled each time
TIMEOUT = 30  # seconds without a byte


def fetch(remote: RemoteFile, folder: Path, reporter: Reporter) -> Path:
    """Bring ``remote`` into ``folder`` and return its path; a file that is there and whole is not fetched again.

    What has arrived is kept as ``NAME.part`` and gone on with next time. Raises DownloadError when the server cannot
    be reached, refuses, or sends something else than was expected; StorageError when the disk is full.
    """
    target = folder / remote.name
    if target.exists():
        return target
    part = folder / f"{remote.name}.part"
    with storage_errors(part):
        folder.mkdir(parents=True, exist_ok=True)
        _fill(remote, part, reporter)
        _check(remote, part)
        part.replace(target)
    return target


def _fill(remote: RemoteFile, part: Path, reporter: Reporter) -> None:
    """Ask again from where the last answer broke off, until the whole file is there."""
    failures = 0
    missing = None if remote.size is None else remote.size - _length(part)
    with reporter.task(remote.name, missing, "bytes") as task:
        while True:
            before = _length(part)
            try:
                if _receive(remote, part, task):
                    return
                reason = "the server broke off"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise DownloadError(f"{remote.url} answers {error.code} {error.reason}", _by_hand(part)) from error
                reason = f"the server answers {error.code} {error.reason}"
            except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                cause = getattr(error, "reason", error)
                reason = str(cause) or type(error).__name__
                if isinstance(cause, socket.gaierror):  # no network: waiting would only hide the hint
                    failures = ATTEMPTS
            failures = 0 if _length(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(f"{remote.url} cannot be fetched: {reason}", _by_hand(part))
            time.sleep(PATIENCE * 2 ** max(0, failures - 1))


def _receive(remote: RemoteFile, part: Path, task: ProgressTask) -> bool:
    """One request; appends to ``part`` and returns whether the file is complete."""
    have = _length(part)
    headers = {"User-Agent": f"xmodal/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        answer = cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT))
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part_is_whole = (error.headers.get("Content-Range") or "").endswith(f"/{have}")
        if not part_is_whole:
            part.unlink()  # longer than the file: it is of another one
        return part_is_whole
    with answer:
        resumed = answer.status == 206 and _starts_at(answer, have)
        total = _total(answer, have if resumed else 0)
        _check_room(part, (total or 0) - have)
        with open(part, "ab" if resumed else "wb") as file:
            for chunk in _chunks(answer):
                file.write(chunk)
                task.advance(len(chunk))
    return total is None or _length(part) == total


def _check_room(part: Path, needed: int) -> None:
    """Raise StorageError before the first byte where the rest cannot fit."""
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise StorageError(
            f"{part} needs {needed / 1e6:,.0f} MB more, and {free / 1e6:,.0f} MB are free there",
            "make room, or name another place with --out or XMODAL_HOME",
        )


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read1(CHUNK):
        yield chunk


def _starts_at(answer: HTTPResponse, have: int) -> bool:
    return (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _total(answer: HTTPResponse, have: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return None if length is None else have + int(length)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check(remote: RemoteFile, part: Path) -> None:
    """Raise DownloadError, and drop the file, where it is not the one that is known."""
    problem = None
    if remote.size is not None and _length(part) != remote.size:
        problem = f"has {_length(part):,} bytes instead of {remote.size:,}"
    elif remote.sha256 is not None and sha256_of(part) != remote.sha256:
        problem = "has another sha256 than the one known"
    if problem is not None:
        part.unlink()
        raise DownloadError(f"{remote.url} {problem}", "try again later; if it stays so, the source has changed")


def _by_hand(part: Path) -> str:
    target = part.with_suffix("")
    return f"run the command again to go on; or fetch the file by other means and place it at {target}"
