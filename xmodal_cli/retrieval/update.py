"""Update an index to match its folders: compute the missing vectors, then replace the index folder atomically.

The model is loaded, by the function ``embed``, only if a vector has to be computed. An interrupted update leaves the
old index and a journal of the computed vectors, which the next update reuses.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from xmodal_cli import atomic_folder
from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.image_content import HINTS
from xmodal_cli.data.scan import Scan, is_under, path_key
from xmodal_cli.errors import BadData, Category, IncompatibleFeatures, XmodalError
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.absence import KnownRoots, absent_paths, check_roots
from xmodal_cli.retrieval.file_embedding import FileEmbedder, KnownVectors
from xmodal_cli.retrieval.hints import index_name
from xmodal_cli.retrieval.index import Index, IndexMetadata, IndexModel, is_index, open_index, read_metadata
from xmodal_cli.retrieval.items import RETRY, Item, UnreadableFile
from xmodal_cli.retrieval.journal import Journal, journal_path
from xmodal_cli.retrieval.moved import moved_roots
from xmodal_cli.retrieval.plan import UpdatePlan, make_plan
from xmodal_cli.retrieval.vector_versions import VectorVersions
from xmodal_cli.retrieval.vectors import check_kind
from xmodal_cli.retrieval.write import Content, write_version
from xmodal_cli.types import ImageVectors


@dataclass(frozen=True)
class IndexRequest:
    """The requested content of an index: the photos of ``scan`` as vectors of ``model``.

    Without ``kind`` the kind of the old index is kept; the default is ``flat``. ``remove_missing`` confirms that absent
    photos were deleted, see ``absence``. ``exclude`` are the patterns that are stored for later updates.
    """

    scan: Scan
    model: IndexModel
    kind: str | None = None
    rebuild: bool = False  # ignore the old index; vectors in the journal are reused
    remove_missing: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndexChanges:
    """The result of an update, in photos.

    ``kept`` are the absent files and folders whose photos were kept, with the reason and the number of photos;
    ``moved_roots`` the folders of the index that were found elsewhere.
    """

    metadata: IndexMetadata
    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    num_computed: int
    unreadable: tuple[UnreadableFile, ...]
    kept: dict[str, tuple[str, int]] = field(default_factory=dict)
    moved_roots: tuple[str, ...] = ()
    num_heic: int = 0  # new HEIC photos that were skipped because pillow-heif is not installed
    num_recomputed: int = 0  # known photos that are decoded differently in this version
    num_uncompared: int = 0  # photos whose vectors are still of an earlier version of decoding


def update_index(
    folder: Path, request: IndexRequest, embed: Callable[[], ImageVectors], reporter: Reporter = SILENT
) -> IndexChanges:
    """Update or create the index in ``folder``.

    Raises BadData if no photo can be read, IncompatibleFeatures if the index was made by another model, StorageError
    if it cannot be written or is being written by another process.
    """
    check_kind(request.kind or "flat")
    registry.check_target(folder)
    with atomic_folder.write_lock(folder, reporter=reporter):
        atomic_folder.recover(folder)
        with contextlib.ExitStack() as stack:
            old = _old_index(folder, request)
            if old is not None:
                stack.enter_context(old)
            model = request.model
            journal = stack.enter_context(Journal(journal_path(folder), model.fingerprint, model.embed_dim))
            changes = _Update(folder, request, old, journal).run(embed, reporter)
            journal.remove()
            return changes


class _Update:
    """One run of ``update_index``, after its arguments have been checked."""

    def __init__(self, folder: Path, request: IndexRequest, old: Index | None, journal: Journal) -> None:
        self.folder, self.request, self.old, self.scan = folder, request, old, request.scan
        self.journal = journal
        self.previous = _try_read_metadata(folder) if old is None else old.metadata
        self.kind = request.kind or (self.previous.kind if self.previous else "flat")

    def run(self, embed: Callable[[], ImageVectors], reporter: Reporter) -> IndexChanges:
        items = _old_items(self.folder, self.old)
        self._check_roots(items)
        old_items, old_unreadable = (items, self.old.items.unreadable()) if self.old else ([], [])
        roots, mounts = (self.old.metadata.roots, self.old.metadata.mounts) if self.old else ((), ())
        moved = moved_roots(roots, mounts, old_items, self.scan)
        absent = absent_paths(self.scan, self.previous.mounts if self.previous else (), self.request.remove_missing)
        plan = make_plan(old_items, old_unreadable, self.scan, (*self.scan.roots, *moved), absent)
        versions = VectorVersions(old_items, self.journal.digests_before())
        known = KnownVectors(self.old, self.journal, versions)
        is_older = self.old is not None and self.old.metadata.decoding != DECODING
        versions.revise(plan, self.scan, is_older, reporter)
        embedder = FileEmbedder(known, self.request.model, embed)
        new = embedder.embed(plan.to_embed, reporter)
        num_heic = sum(file.category is Category.HEIC for file in embedder.unreadable)
        _keep_unreadable_items(plan, embedder.unreadable)
        versions.replace_rows(plan, known.find)
        unreadable = sorted([*plan.unreadable, *embedder.unreadable], key=lambda file: path_key(file.path))
        indexed = sorted([*plan.unchanged, *new], key=lambda pair: path_key(pair[0].path))
        if not indexed and not (self.request.remove_missing and plan.stale):
            raise _only_heic(self.scan.roots, num_heic) if num_heic else _nothing_readable(self.scan.roots, unreadable)
        metadata = self._new_metadata(moved, absent, len(indexed), len(unreadable))
        if versions.num_compared or self._has_changes(metadata, plan, unreadable, old_unreadable):
            write_version(self.folder, self.old, metadata, Content(indexed, unreadable, known.take))
        elif self.old is not None:
            metadata = self.old.metadata
        return IndexChanges(
            metadata=metadata,
            **_count_changes(plan, [item for item, _ in new]),
            num_computed=embedder.num_computed,
            unreadable=tuple(unreadable),
            kept=_kept(plan, {**{file.path: file.reason for file in unreadable}, **absent}),
            moved_roots=tuple(moved),
            num_heic=num_heic,
            num_recomputed=sum(versions.is_outdated(i) and i.decoding == DECODING for i, _ in indexed),
            num_uncompared=sum(i.decoding != DECODING for i, _ in indexed),
        )

    def _check_roots(self, items: Sequence[Item]) -> None:
        roots = self.previous.roots if self.previous else ()
        known = KnownRoots(index_name(self.folder), roots, [item.path for item in items])
        check_roots(self.scan, known, self.request.remove_missing)

    def _new_metadata(
        self, moved: Sequence[str], absent: Mapping[str, str], num_items: int, num_unreadable: int
    ) -> IndexMetadata:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        old = self.old.metadata if self.old else None
        roots = [root for root in (*(old.roots if old else ()), *self.scan.roots) if root not in moved]
        mounts = {mount for mount in (old.mounts if old else ()) if mount in absent or not self._is_scanned(mount)}
        return IndexMetadata(
            build=uuid.uuid4().hex,
            model=self.request.model,
            kind=self.kind,
            roots=_outermost([root for root in roots if root not in self.scan.unreachable_roots]) or _outermost(roots),
            num_items=num_items,
            num_unreadable=num_unreadable,
            created=old.created if old else now,
            updated=now,
            mounts=tuple(sorted(mounts | {mount for mount, has_entries in self.scan.mounts.items() if has_entries})),
            exclude=self.request.exclude,
        )

    def _is_scanned(self, path: str) -> bool:
        return any(is_under(path, root) for root in self.scan.roots)

    def _has_changes(
        self, new: IndexMetadata, plan: UpdatePlan, unreadable: list[UnreadableFile], before: list[UnreadableFile]
    ) -> bool:
        if self.old is None or plan.stale or unreadable != before:
            return True
        old = self.old.metadata
        facts = ("num_items", "kind", "roots", "mounts", "exclude", "decoding")
        return any(getattr(new, fact) != getattr(old, fact) for fact in facts)


def _old_items(folder: Path, old: Index | None) -> list[Item]:
    """The photos of the index, also if it will be rebuilt; none if they cannot be read."""
    if old is not None:
        return list(old.items.all_items())
    try:
        with open_index(folder) as index:
            return list(index.items.all_items())
    except XmodalError:
        return []


def _kept(plan: UpdatePlan, reasons: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    return {path: (reasons[path], count) for path, count in plan.kept.items()}


def _keep_unreadable_items(plan: UpdatePlan, unreadable: Sequence[UnreadableFile]) -> None:
    """A changed photo that cannot be read for a reason that may change keeps its vector until it can be read."""
    for file in unreadable:
        if file.mtime_ns == RETRY and (before := plan.stale.pop(file.path, None)) is not None:
            plan.unchanged.append(before)
            plan.kept[file.path] += 1


def _old_index(folder: Path, request: IndexRequest) -> Index | None:
    """The index to update, if any. Raises IncompatibleFeatures if it has the vectors of another model."""
    if request.rebuild or not is_index(folder):
        return None
    old, model = read_metadata(folder).model, request.model
    if old.fingerprint != model.fingerprint:
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by the model {old.name} ({old.fingerprint[:8]}), "
            f"not by {model.name} ({model.fingerprint[:8]})",
            "rebuild it with this model: --rebuild; or create another index: --index NAME",
        )
    return open_index(folder)


def _try_read_metadata(folder: Path) -> IndexMetadata | None:
    """The metadata of an index that will be rebuilt, or None if it cannot be read."""
    try:
        return read_metadata(folder)
    except XmodalError:
        return None


def _count_changes(plan: UpdatePlan, new: Sequence[Item]) -> dict[str, int]:
    """A photo deleted at one path and added at another was moved; one with identical bytes is unchanged."""
    new_paths = {item.path for item in new}
    removed = Counter(item.digest for path, (item, _) in plan.stale.items() if path not in new_paths)
    counts = {"added": 0, "updated": 0, "moved": 0, "removed": removed.total(), "unchanged": len(plan.unchanged)}
    for item in new:
        if (before := plan.stale.get(item.path)) is not None:
            counts["unchanged" if before[0].digest == item.digest else "updated"] += 1
        elif removed[item.digest] > 0:
            removed[item.digest] -= 1
            counts["moved"] += 1
            counts["removed"] -= 1
        else:
            counts["added"] += 1
    return counts


def _outermost(roots: Sequence[str]) -> tuple[str, ...]:
    """The roots that are not inside another root, in order, without duplicates."""
    unique = dict.fromkeys(roots)
    return tuple(r for r in unique if not any(str(parent) in unique for parent in Path(r).parents))


def _only_heic(roots: Sequence[str], num_heic: int) -> BadData:
    return BadData(
        f"{', '.join(roots)}: all {num_heic} photos are HEIC files, which need pillow-heif", HINTS[Category.HEIC]
    )


def _nothing_readable(roots: Sequence[str], unreadable: Sequence[UnreadableFile]) -> BadData:
    first = f"; the first, {unreadable[0].path}: {unreadable[0].reason}" if unreadable else ""
    return BadData(
        f"none of the {len(unreadable)} photos in {', '.join(roots)} can be read{first}",
        "check whether an image viewer can open them; if not, the files are damaged",
    )
