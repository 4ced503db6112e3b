"""The report of an update of an index; its ``asdict`` is the output of ``xmodal index --json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data import left_out
from xmodal_cli.data.scan import Scan
from xmodal_cli.retrieval.items import RETRY
from xmodal_cli.retrieval.update import IndexChanges
from xmodal_cli.types import Defect, Unreadable


@dataclass(frozen=True)
class ReadProblem:
    """A file or folder that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class KeptPhotos:
    """A file or folder that was not found or could not be read, and the number of its photos that the index keeps."""

    path: str
    reason: str
    photos: int


@dataclass(frozen=True)
class Recomputed:
    """The number of known ``photos`` that were embedded again because they are decoded differently now, and why.

    ``not_compared`` photos still have vectors of an earlier version: they are absent, cannot be read or are in folders
    that were not read.
    """

    photos: int
    reason: str | None
    not_compared: int


@dataclass(frozen=True)
class IndexReport:
    """An index after an update, with the numbers of photos added, updated and so on; ``asdict`` is the JSON.

    ``computed`` photos were embedded; ``heic_passed_over`` were skipped because pillow-heif is not installed.
    ``left_out`` are all files without a vector, by category (``data/left_out.py``), also those that the patterns
    ``exclude`` exclude; ``kept`` are photos that were not found. ``defects`` are
    damaged photos that were embedded by this update. ``moved_roots`` are former paths of folders. ``decoding`` is the
    version of decoding (``data/decoding.py``).
    """

    index: str
    folder: str
    model: str
    similarity: str
    roots: list[str]
    items: int
    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    computed: int
    unreadable: list[ReadProblem]
    left_out: dict[str, Any]
    defects: dict[str, Any]
    heic_passed_over: int
    unread_folders: list[ReadProblem]
    kept: list[KeptPhotos]
    moved_roots: list[str]
    exclude: list[str]
    decoding: str
    recomputed: Recomputed


def make_report(folder: Path, changes: IndexChanges, photos: Scan, defects: Sequence[Defect] = ()) -> IndexReport:
    """The report of an update of the index in ``folder`` from the scan ``photos``."""
    card = changes.metadata
    return IndexReport(
        index=folder.name,
        folder=str(folder),
        model=card.model.name,
        similarity=card.model.similarity,
        roots=list(card.roots),
        items=card.num_items,
        added=changes.added,
        updated=changes.updated,
        moved=changes.moved,
        removed=changes.removed,
        unchanged=changes.unchanged,
        computed=changes.num_computed,
        unreadable=[ReadProblem(u.path, u.reason) for u in changes.unreadable],
        left_out=left_out.to_json(_left_out(changes, photos)),
        defects=left_out.defects_to_json(defects),
        heic_passed_over=changes.num_heic,
        unread_folders=[ReadProblem(path, reason) for path, reason in photos.unreadable_folders.items()],
        kept=[KeptPhotos(path, reason, count) for path, (reason, count) in changes.kept.items()],
        moved_roots=list(changes.moved_roots),
        exclude=list(card.exclude),
        decoding=card.decoding,
        recomputed=_recomputed(changes),
    )


def _recomputed(changes: IndexChanges) -> Recomputed:
    reason = f"since version {changes.metadata.decoding} of decoding, color profiles are converted to sRGB"
    num = changes.num_recomputed
    return Recomputed(num, reason if num else None, changes.num_uncompared)


def _left_out(changes: IndexChanges, photos: Scan) -> list[Unreadable]:
    unread = (Unreadable(Path(u.path), u.reason, u.category, u.mtime_ns == RETRY) for u in changes.unreadable)
    problems = [*photos.left_out, *unread, *photos.excluded]
    return [problem for problem in problems if str(problem.path) not in changes.kept]
