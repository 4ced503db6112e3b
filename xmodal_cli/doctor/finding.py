"""The result of a check: ok, a warning or a failure, with the suggested fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One row of the report. ``fail``: commands will fail; ``warn``: slower, or an optional feature is missing."""

    area: str
    what: str
    status: Status
    found: str
    remedy: str = ""


def size(num_bytes: float) -> str:
    """A size such as ``1.2 GB``, in powers of ten."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return f"{num_bytes / 1e3:,.0f} kB"
