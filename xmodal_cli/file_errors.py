"""Errors of reading files: whatever a damaged or hostile file raises becomes a BadData that names the file."""

from __future__ import annotations

import contextlib
import errno
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodal_cli.errors import BadData, XmodalError, missing_package
from xmodal_cli.file_identity import check_regular

_ACCESS = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)
_LENGTH = 200  # of a reason; libraries quote whole files


@contextlib.contextmanager
def reading(file: Path, hint: str, kind: type[BadData] = BadData, what: str = "cannot be read") -> Iterator[None]:
    """Raise every exception while ``file`` is read as ``kind``, with its reason and ``hint``.

    A named pipe, a socket and a device are never opened.

    Libraries raise exceptions of any type for damaged files. An XmodalError, and the error of a package that is not
    installed, are raised as they are.
    """
    try:
        _check_kind(file)
        yield
    except XmodalError:
        raise
    except Exception as error:
        if missing_package(error):
            raise
        raise kind(f"{file} {what}: {reason_of(error)}", access_hint(error) or hint) from error


def _check_kind(file: Path) -> None:
    """Raise NotRegularFile for a pipe, socket or device; what cannot be examined is left to its reader."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return
    if not stat.S_ISDIR(mode):
        check_regular(file, mode)


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Put ``file`` before the message of an XmodalError that does not name it."""
    try:
        yield
    except XmodalError as error:
        if str(file) in error.message:
            raise
        raise type(error)(f"{file}: {error.message}", error.hint) from error


def access_hint(error: Exception) -> str:
    """The hint for a file that exists and cannot be accessed, whatever its content; else empty."""
    is_access = isinstance(error, OSError) and error.errno in _ACCESS
    return "check its permissions and its disk" if is_access else ""


def open_safetensors(file: Path, framework: str) -> Any:
    """``safetensors.safe_open``, which reports a file without read permission as missing. Raises OSError."""
    from safetensors import safe_open

    _check_kind(file)
    with open(file, "rb"):
        return safe_open(file, framework=framework)


def reason_of(error: Exception) -> str:
    """An exception in one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]!r}" if error.args else "a key is missing"
    lines = str(error).strip().splitlines()
    return lines[0][:_LENGTH] if lines else type(error).__name__


def parse_json(content: str | bytes) -> Any:
    """The value of JSON text. Raises ValueError, also for UTF-8 errors and values that are nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_json_object(content: str | bytes) -> dict[str, Any]:
    """The value of JSON text that must be an object. Raises ValueError."""
    value = parse_json(content)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
