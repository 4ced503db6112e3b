"""What of a dataset is left out: rows, captions and images, counted and listed with reasons for ``data info``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data import tar
from xmodal_cli.data.caption_cleaning import count_left_out
from xmodal_cli.types import ImageTextDataset, SkippedRow

LISTED = 5  # rows and remarks listed without --json


@dataclass(frozen=True)
class Omissions:
    """The numbers of missing images and of captions that are left out, the rows that cannot be used, and remarks.

    ``published_duplicates``: repeated captions of published splits, which are kept.
    """

    missing_images: int
    empty_captions: int
    duplicate_captions: int
    published_duplicates: int
    skipped_rows: tuple[SkippedRow, ...]
    notes: tuple[str, ...]


def find_omissions(dataset: ImageTextDataset) -> Omissions:
    """What is left out of a dataset; looks up whether its images exist."""
    missing = sum(e.path is not None and not image_exists(e.path) for e in dataset.examples)
    counts = count_left_out(dataset.examples)
    return Omissions(missing, counts.empty, counts.duplicate, counts.published, dataset.skipped_rows, dataset.notes)


def omission_lines(found: Omissions) -> list[str]:
    """The lines of ``find_omissions``; none if nothing is left out."""
    lines = [f"{label:<21}{count}" for label, count in omission_counts(found)]
    rows = [f"{row.where} {row.reason}" for row in found.skipped_rows]
    return [*lines, *_listed("skipped rows", rows), *_listed("remarks", found.notes)]


def omission_counts(found: Omissions) -> list[tuple[str, str]]:
    """(what, number with a remark) of the images and captions that are left out; none if nothing is."""
    counts = (
        ("missing images", found.missing_images, ""),
        ("empty captions", found.empty_captions, " (left out)"),
        ("repeated captions", found.duplicate_captions, " (left out)"),
        ("repeated captions", found.published_duplicates, " (kept, as in the published splits)"),
    )
    return [(label, f"{count:,}{suffix}") for label, count, suffix in counts if count]


def _listed(label: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  and {len(entries) - LISTED:,} more (use --json to list all)"] if len(entries) > LISTED else []
    return [f"{label:<21}{len(entries):,}", *(f"  {entry}" for entry in entries[:LISTED]), *more]


def image_exists(path: Path) -> bool:
    """Whether there is a file at ``path``, or the archive that ``path`` points into."""
    return path.exists() or tar.split_member(path) is not None
