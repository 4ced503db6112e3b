"""Update an index to match its folders: compute the missing vectors, then replace the index folder atomically.

The model is loaded, by the function ``embed``, only if a vector has to be computed. An interrupted update leaves the
old index and a journal of the computed vectors, which the next update reuses.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.data.image_content import HINTS
from xmodal_cli.data.scan import Scan, path_key
from xmodal_cli.errors import BadData, Category, IncompatibleFeatures, XmodalError
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.paths import storage_errors
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.file_embedding import FileEmbedder, KnownVectors
from xmodal_cli.retrieval.index import (
    ITEMS,
    METADATA,
    VECTORS,
    Index,
    IndexMetadata,
    IndexModel,
    is_index,
    open_index,
    read_metadata,
)
from xmodal_cli.retrieval.items import Item, UnreadableFile, write_items
from xmodal_cli.retrieval.journal import Journal, journal_path
from xmodal_cli.retrieval.plan import IndexedItem, UpdatePlan, make_plan
from xmodal_cli.retrieval.vectors import add_quantized, check_kind, write_vectors
from xmodal_cli.types import ImageVectors, Unreadable


@dataclass(frozen=True)
class IndexRequest:
    """The requested content of an index: the photos of ``scan`` as vectors of ``model``.

    Without ``kind`` the kind of the old index is kept; the default is ``flat``.
    """

    scan: Scan
    model: IndexModel
    kind: str | None = None
    rebuild: bool = False  # ignore the old index; vectors in the journal are reused


@dataclass(frozen=True)
class IndexChanges:
    """The result of an update, in photos. ``unreadable_folders`` has the reason per folder."""

    metadata: IndexMetadata
    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    num_computed: int
    unreadable: tuple[UnreadableFile, ...]
    unreadable_folders: dict[str, str]
    left_out: tuple[Unreadable, ...] = ()  # found by the scan: pipes and devices
    num_heic: int = 0  # new HEIC photos that were skipped because pillow-heif is not installed


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
            update = _Update(folder, request, old)
            changes = update.run(KnownVectors(old, journal), embed, reporter)
            journal.remove()
            return changes


class _Update:
    """One run of ``update_index``, after its arguments have been checked."""

    def __init__(self, folder: Path, request: IndexRequest, old: Index | None) -> None:
        self.folder, self.request, self.old, self.scan = folder, request, old, request.scan
        previous = _try_read_metadata(folder) if old is None else old.metadata
        self.kind = request.kind or (previous.kind if previous else "flat")

    def run(self, known: KnownVectors, embed: Callable[[], ImageVectors], reporter: Reporter) -> IndexChanges:
        roots = self.scan.roots
        items, old_unreadable = (self.old.items.all_items(), self.old.items.unreadable()) if self.old else ((), [])
        plan = make_plan(items, old_unreadable, self.scan, roots)
        embedder = FileEmbedder(known, self.request.model, embed)
        new = embedder.embed(plan.to_embed, reporter)
        num_heic = sum(file.category is Category.HEIC for file in embedder.unreadable)
        unreadable = sorted([*plan.unreadable, *embedder.unreadable], key=lambda file: path_key(file.path))
        indexed = sorted([*plan.unchanged, *new], key=lambda pair: path_key(pair[0].path))
        if not indexed:
            raise _only_heic(roots, num_heic) if num_heic else _nothing_readable(roots, unreadable)
        metadata = self._new_metadata(roots, len(indexed), len(unreadable))
        if self._has_changes(metadata, plan, unreadable, old_unreadable):
            self._write(metadata, indexed, unreadable, known)
        elif self.old is not None:
            metadata = self.old.metadata
        counts = _count_changes(plan, [item for item, _ in new])
        return IndexChanges(
            metadata=metadata,
            **counts,
            num_computed=embedder.num_computed,
            unreadable=tuple(unreadable),
            unreadable_folders=self.scan.unreadable_folders,
            left_out=tuple(self.scan.left_out),
            num_heic=num_heic,
        )

    def _new_metadata(self, roots: Sequence[str], num_items: int, num_unreadable: int) -> IndexMetadata:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return IndexMetadata(
            build=uuid.uuid4().hex,
            model=self.request.model,
            kind=self.kind,
            roots=_outermost([*(self.old.metadata.roots if self.old else ()), *roots]),
            num_items=num_items,
            num_unreadable=num_unreadable,
            created=self.old.metadata.created if self.old else now,
            updated=now,
        )

    def _has_changes(
        self, new: IndexMetadata, plan: UpdatePlan, unreadable: list[UnreadableFile], before: list[UnreadableFile]
    ) -> bool:
        if self.old is None or plan.stale or unreadable != before:
            return True
        old = self.old.metadata
        return (new.num_items, new.kind, new.roots) != (old.num_items, old.kind, old.roots)

    def _write(
        self, metadata: IndexMetadata, indexed: list[IndexedItem], unreadable: list[UnreadableFile], known: KnownVectors
    ) -> None:
        rows = np.array([row for _, row in indexed], np.int64)
        shape = (metadata.num_items, metadata.model.embed_dim)
        kind = metadata.kind
        with storage_errors(self.folder), atomic_folder.draft_path(self.folder) as draft:
            if self.old and kind == self.old.metadata.kind and np.array_equal(rows, np.arange(len(self.old))):
                _link(self.folder / VECTORS, draft / VECTORS)
            else:
                write_vectors(draft / VECTORS, kind, shape, lambda positions: known.take(rows[positions]))
            if kind == "flat" and array_similarity(metadata.model.similarity).inner_product:
                add_quantized(draft / VECTORS, shape)
            write_items(draft / ITEMS, (item for item, _ in indexed), unreadable)
            (draft / METADATA).write_text(metadata.to_json(), encoding="utf-8")
            atomic_folder.replace_folder(draft, self.folder)


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
    removed = Counter(item.digest for path, item in plan.stale.items() if path not in new_paths)
    counts = {"added": 0, "updated": 0, "moved": 0, "removed": removed.total(), "unchanged": len(plan.unchanged)}
    for item in new:
        if (before := plan.stale.get(item.path)) is not None:
            counts["unchanged" if before.digest == item.digest else "updated"] += 1
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


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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
