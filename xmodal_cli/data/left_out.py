"""The files that a command leaves out: counted by category and listed with reasons, in the same words everywhere.

Every command collects ``types.Unreadable`` records; ``to_json`` is the value of ``left_out`` in ``--json``,
``to_lines`` its text. The category of an error is ``errors.BadImage.category``.
``Unreadable.of(path, error)`` copies it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from xmodal_cli.data.image_content import PACKAGES, format_hint
from xmodal_cli.errors import Category
from xmodal_cli.types import Defect, Unreadable

DEFECTS = "used with defects"  # the title of ``defects_to_json``
LISTED = 10  # files listed without --json
LABELS = {
    Category.RAW: "camera RAW",
    Category.HEIC: "HEIC without pillow-heif",
    Category.AVIF: "AVIF without support in Pillow",
    Category.JXL: "JPEG XL without pillow-jxl-plugin",
    Category.SVG: "SVG",
    Category.VECTOR: "EPS, PDF or WMF",
    Category.NOT_AN_IMAGE: "not an image",
    Category.EMPTY: "empty",
    Category.DAMAGED: "damaged",
    Category.TOO_LARGE: "too large",
    Category.SPECIAL: "pipes, sockets or devices",
    Category.MISSING: "missing",
    Category.UNREADABLE: "unreadable",
    Category.MEMORY: "not enough memory",
    Category.NOT_FINITE: "not finite",
    Category.EXCLUDED: "excluded",
    Category.PROFILE: "with a damaged color profile",
}


def count(problems: Sequence[Unreadable | Defect]) -> dict[str, int]:
    """Category -> number of files, in the order of ``errors.Category``."""
    counts = Counter(problem.category for problem in problems)
    return {category.value: counts[category] for category in Category if counts[category]}


def to_entry(problem: Unreadable) -> dict[str, Any]:
    """One file in ``--json``."""
    return {
        "path": str(problem.path),
        "reason": problem.reason,
        "category": problem.category.value,
        "may_change": problem.may_change,
    }


def to_json(problems: Sequence[Unreadable]) -> dict[str, Any]:
    """The value of ``left_out`` in ``--json``: the number of files, the number per category, and every file."""
    return {"total": len(problems), "counts": count(problems), "files": [to_entry(problem) for problem in problems]}


def defects_to_json(defects: Sequence[Defect]) -> dict[str, Any]:
    """The value of ``defects`` in ``--json``: images that are used although they are damaged; each once."""
    unique = list(dict.fromkeys(defects))
    files = [{"path": str(d.path), "reason": d.reason, "category": d.category.value} for d in unique]
    return {"total": len(unique), "counts": count(unique), "files": files}


def to_lines(left_out: dict[str, Any], title: str = "left out") -> list[str]:
    """The lines of a value of ``to_json`` or ``defects_to_json``, if any: numbers, the first files, what to install."""
    total, files = left_out["total"], left_out["files"]
    if not total:
        return []
    counts = ", ".join(f"{number:,} {LABELS[Category(name)]}" for name, number in left_out["counts"].items())
    lines = [f"{title}: {total:,} {'file' if total == 1 else 'files'} ({counts})"]
    lines += [f"  {_with_path(**entry)}" for entry in files[:LISTED]]
    if total > LISTED:
        lines.append(f"  and {total - LISTED:,} more (use --json to list all)")
    return lines + [f"  {LABELS[category]}: {format_hint(category)}" for category in _installable(left_out["counts"])]


def _installable(counts: dict[str, int]) -> list[Category]:
    """The categories whose files can be read with another package."""
    return [category for name in counts if (category := Category(name)) in PACKAGES]


def _with_path(path: str, reason: str, **_: object) -> str:
    return reason if path in reason else f"{path}: {reason}"
