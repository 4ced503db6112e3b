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
    return _smallest(_machine(), _control_group(), _address_space())


def total_bytes() -> int | None:
    """The memory that the process could have if it were the only one, which is the same at each call."""
    return _smallest(_machine("MemTotal"), _control_group(used=False), _address_space(used=False))


def format_bytes(size: float) -> str:
    """As ``1.5 GB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _smallest(*amounts: int | None) -> int | None:
    known = [amount for amount in amounts if amount is not None]
    return max(0, min(known)) if known else None


def _machine(entry: str = "MemAvailable") -> int | None:
    """Memory that can be allocated without swapping, or that there is (``MemTotal``), on Linux."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{entry}:"):
                return 1024 * int(line.split()[1])
    return None


def _control_group(used: bool = True) -> int | None:
    """The limit, less what is ``used``."""
    for limit, usage in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            total = int(Path(limit).read_text(encoding="ascii"))
            return total - int(Path(usage).read_text(encoding="ascii")) if used else total
    return None


def _address_space(used: bool = True) -> int | None:
    """What ``ulimit -v`` leaves, or allows."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return limit - pages * resource.getpagesize() if used else limit
    return limit
