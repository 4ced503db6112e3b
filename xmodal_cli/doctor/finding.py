"""What a check found: fine, a warning, or something that will fail, with the remedy."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: ``fail`` is what makes a command fail, ``warn`` what only costs speed or an extra."""

    area: str
    what: str
    status: Status
    found: str
    remedy: str = ""


def install(*requirements: str) -> str:
    """The command that installs packages beside this xmodal, whatever it was installed with."""
    packages = " ".join(f'"{r}"' if any(c in r for c in "<>! ") else r for r in requirements)
    if find_spec("pip") is not None:
        return f"{sys.executable} -m pip install {packages}"
    return f"uv pip install --python {sys.executable} {packages}"


def size(num_bytes: float) -> str:
    """``1.2 GB``, in powers of ten as disks are sold."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:,.1f} {unit}"
    return f"{num_bytes / 1e3:,.0f} kB"
