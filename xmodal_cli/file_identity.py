"""The identity of a file: its kind, its checksum, or its size and modification time. Imports nothing heavy."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
# without waiting: another process may replace the file by a named pipe after the check
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class NotRegularFile(OSError):
    """A named pipe, socket or device, which is never opened."""


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file, or a link to one, for reading. Raises OSError; NotRegularFile for pipes and devices."""
    check_regular(path, os.stat(path).st_mode)  # noqa: PTH116 - opening a device can have effects
    descriptor = os.open(path, _FLAGS)
    try:
        check_regular(path, os.fstat(descriptor).st_mode)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path | str, mode: int) -> None:
    """Raise NotRegularFile, or IsADirectoryError, unless the ``st_mode`` of ``path`` is that of a regular file."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise NotRegularFile(errno.EINVAL, f"it is {kind}, not a file", str(path))


def reason_not_regular(path: Path | str) -> str:
    """Why ``path`` cannot be opened as a file, such as "is a named pipe, not a file"; "" if it is a regular file."""
    try:
        check_regular(path, os.stat(path).st_mode)  # noqa: PTH116 - opening a device can have effects
    except IsADirectoryError:
        return "is a folder, not a file"
    except NotRegularFile as error:
        return f"{error.strerror}".removeprefix("it ")
    except FileNotFoundError:
        return "is a link to a file that does not exist" if os.path.islink(path) else "does not exist"  # noqa: PTH114
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return ""


def is_absent(path: Path | str) -> bool:
    """Whether nothing is at ``path``, or a link to nothing; false for what exists and cannot be examined."""
    try:
        os.stat(path)  # noqa: PTH116 - as in reason_not_regular
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def reason_not_folder(path: Path | str) -> str:
    """Why there is no folder at ``path``: "does not exist", "is not a folder" or "cannot be read: ..."; else ""."""
    try:
        is_dir = stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - as in reason_not_regular
    except (OSError, ValueError):
        return reason_not_regular(path)
    return "" if is_dir else "is not a folder"


def is_file(entry: os.DirEntry[str]) -> bool:
    """``entry.is_file()``, which is an error for a link that leads to itself: false."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """``entry.is_dir()``, which is an error for a link that leads to itself: false."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def read_regular(path: Path | str) -> bytes:
    """The content of a regular file. Raises OSError; NotRegularFile for pipes and devices."""
    with open_regular(path) as stream:
        return stream.read()


def sha256_of(file: Path) -> str:
    """The sha256 of a file in hex. Raises OSError."""
    import hashlib  # takes a few milliseconds, not needed for `xmodal --help`

    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_and_mtime(path: Path | str) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds; None if the file does not exist."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called once per photo of an index
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
