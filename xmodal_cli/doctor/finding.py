"""The result of a check: ok, a warning or a failure, with the suggested fix."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
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


def install(*requirements: str) -> str:
    """The command that installs packages into the environment of this xmodal, by pip if it is there, else by uv."""
    packages = " ".join(f'"{r}"' if any(c in r for c in "<>! ") else r for r in requirements)
    if find_spec("pip") is not None:
        return f"{sys.executable} -m pip install {packages}"
    return f"uv pip install --python {sys.executable} {packages}"


def size(num_bytes: float) -> str:
    """A size such as ``1.2 GB``, in powers of ten."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return f"{num_bytes / 1e3:,.0f} kB"
