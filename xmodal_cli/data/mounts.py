"""The mount points of this machine, also bind mounts, which have the device number of the folder above them."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")


def mount_points() -> frozenset[str]:
    """The paths of all mount points on Linux; empty on other systems."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return frozenset()
    return frozenset(_unescape(fields[4]) for line in lines if len(fields := line.split(" ")) > 4)


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)
