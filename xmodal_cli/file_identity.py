"""Whether a file is still the same: by its checksum, or by its size and modification time. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path


def sha256_of(file: Path) -> str:
    """sha256 of the file's bytes, in hex. Raises OSError."""
    import hashlib  # a few milliseconds that `xmodal --help` does not need

    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_and_mtime(path: Path | str) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds; None where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called once per photo of an index
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
