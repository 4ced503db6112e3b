"""Downloads a file with resume, retries and checks; the file gets its name only when it is complete."""

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

from xmodal_cli import interrupts
from xmodal_cli.data.sources import RemoteFile
from xmodal_cli.errors import DownloadError, StorageError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.paths import make_folder, storage_errors
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.version import __version__

CHUNK = 2**20  # bytes
MAX_ATTEMPTS = 5  # consecutive attempts without progress
RETRY_DELAY = 1.0  # seconds before the second attempt; doubled each time
TIMEOUT = 30  # seconds without data


def fetch(remote: RemoteFile, folder: Path, reporter: Reporter) -> Path:
    """Download ``remote`` to ``folder`` and return its path; an existing file is not fetched again.

    A partial download is kept as ``NAME.part`` and resumed by the next call. Raises DownloadError if the server is
    unavailable, responds with an error, or sends an unexpected file; StorageError if the disk is full.
    """
    target = folder / remote.name
    if target.exists():
        return target
    part = folder / f"{remote.name}.part"
    make_folder(folder)
    with storage_errors(part), interrupts.resumable(lambda: f"{interrupts.RERUN} the download of {target.name}"):
        _download(remote, part, reporter)
        _check(remote, part)
        part.replace(target)
    return target


def _download(remote: RemoteFile, part: Path, reporter: Reporter) -> None:
    """Repeat requests, each from the end of ``part``, until the file is complete. Raises DownloadError."""
    failures = 0
    missing = None if remote.size is None else remote.size - _length(part)
    with reporter.task(remote.name, missing, "bytes") as task:
        while True:
            before = _length(part)
            try:
                if _receive(remote, part, task):
                    return
                reason = "the server closed the connection early"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    message = f"{remote.url} responds with {error.code} {error.reason}"
                    raise DownloadError(message, _manual_hint(part)) from error
                reason = f"the server responds with {error.code} {error.reason}"
            except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                cause = getattr(error, "reason", error)
                reason = str(cause) or type(error).__name__
                if isinstance(cause, socket.gaierror):  # no network: fail at once
                    failures = MAX_ATTEMPTS
            failures = 0 if _length(part) > before else failures + 1
            if failures >= MAX_ATTEMPTS:
                raise DownloadError(f"{remote.url} cannot be fetched: {reason}", _manual_hint(part))
            time.sleep(RETRY_DELAY * 2 ** max(0, failures - 1))


def _receive(remote: RemoteFile, part: Path, task: ProgressTask) -> bool:
    """Make one request and append to ``part``; returns whether the file is complete."""
    offset = _length(part)
    headers = {"User-Agent": f"xmodal/{__version__}", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = cast(HTTPResponse, urllib.request.urlopen(request, timeout=TIMEOUT))
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        is_complete = (error.headers.get("Content-Range") or "").endswith(f"/{offset}")
        if not is_complete:
            part.unlink()  # longer than the file, so it is part of another one
        return is_complete
    with response:
        resumed = response.status == 206 and _starts_at(response, offset)
        total = _total(response, offset if resumed else 0)
        _check_free_space(part, (total or 0) - offset)
        with open(part, "ab" if resumed else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                task.advance(len(chunk))
    return total is None or _length(part) == total


def _check_free_space(part: Path, needed: int) -> None:
    """Raises StorageError if ``needed`` bytes do not fit on the disk."""
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise StorageError(
            f"{part} needs {needed / 1e6:,.0f} MB more, and {free / 1e6:,.0f} MB are free on its disk",
            "free disk space, or set another folder with --out or XMODAL_HOME",
        )


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK):
        yield chunk


def _starts_at(response: HTTPResponse, offset: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _total(response: HTTPResponse, offset: int) -> int | None:
    """Size of the full file in bytes; None if the server does not send a length."""
    length = response.headers.get("Content-Length")
    return None if length is None else offset + int(length)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _check(remote: RemoteFile, part: Path) -> None:
    """Delete the file and raise DownloadError if its size or sha256 is not the expected one."""
    problem = None
    if remote.size is not None and _length(part) != remote.size:
        problem = f"has {_length(part):,} bytes instead of {remote.size:,}"
    elif remote.sha256 is not None and sha256_of(part) != remote.sha256:
        problem = "does not have the expected sha256"
    if problem is not None:
        part.unlink()
        raise DownloadError(f"{remote.url} {problem}", "try again later; if the error persists, the source has changed")


def _manual_hint(part: Path) -> str:
    target = part.with_suffix("")
    return f"run the command again to resume; or download the file manually and save it as {target}"
