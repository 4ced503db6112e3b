"""The memory that a process can still allocate: of the machine, of its control group and of its own limit."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_bytes() -> int | None:
    """The smallest of the limits that are known, None if none is."""
    known = [amount for amount in (_machine(), _control_group(), _address_space()) if amount is not None]
    return max(0, min(known)) if known else None


def format_bytes(size: float) -> str:
    """As ``1.5 GB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _machine() -> int | None:
    """Memory that can be allocated without swapping, on Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _control_group() -> int | None:
    for limit, usage in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            return int(Path(limit).read_text(encoding="ascii")) - int(Path(usage).read_text(encoding="ascii"))
    return None


def _address_space() -> int | None:
    """What ``ulimit -v`` leaves."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return limit - pages * resource.getpagesize()
    return limit
