"""Update an index to match its folders: embed new and changed photos, and remove the others.

Photos are committed in batches while they are embedded; the last commit removes photos and changes everything else. An
interrupted update is resumed by the next one. The model is loaded, by the function ``embed``, only if a vector has to
be computed.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from xmodal_cli import atomic_folder, interrupts
from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.image_content import format_hint
from xmodal_cli.data.scan import Scan, is_under, outermost, path_key
from xmodal_cli.errors import BadData, Category, ConfigError, IncompatibleFeatures, XmodalError
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import rebuild, registry
from xmodal_cli.retrieval.absence import KnownRoots, absent_paths, check_roots
from xmodal_cli.retrieval.database import ITEMS, REBUILD
from xmodal_cli.retrieval.file_embedding import FileEmbedder
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.index import Index, is_index, open_index
from xmodal_cli.retrieval.items import RETRY, Item, UnreadableFile
from xmodal_cli.retrieval.leftovers import remove_leftovers
from xmodal_cli.retrieval.merging import convert, merge_segments
from xmodal_cli.retrieval.metadata import RECALL, STORES, IndexMetadata, IndexModel, check_recall, check_store
from xmodal_cli.retrieval.missing_facts import fill_missing_facts
from xmodal_cli.retrieval.moved import moved_roots
from xmodal_cli.retrieval.plan import UpdatePlan, make_plan
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.upgrade import remove_format_1, upgrade_locked
from xmodal_cli.retrieval.vector_versions import VectorVersions
from xmodal_cli.retrieval.writer import IndexWriter, write_summary
from xmodal_cli.shell_commands import model_word
from xmodal_cli.types import ImageVectors


@dataclass(frozen=True)
class IndexRequest:
    """The requested content of an index: the photos of ``scan`` as vectors of ``model``.

    Without ``recall`` or ``store`` those of the index are kept; see ``IndexMetadata``. ``remove_missing`` confirms that
    absent photos were deleted, see ``absence``. ``exclude`` are the patterns that are stored for later updates.
    """

    scan: Scan
    model: IndexModel
    recall: float | None = None
    rebuild: bool = False  # ignore the old index
    remove_missing: bool = False
    exclude: tuple[str, ...] = ()
    store: str | None = None


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

    Raises BadData if no photo can be read, ConfigError for full precision of an index that has only half precision,
    IncompatibleFeatures if the index was made by another model, StorageError if it cannot be written or is being
    written by another process.
    """
    check_recall(RECALL if request.recall is None else request.recall)
    check_store(request.store or STORES[0])
    registry.check_target(folder)
    with atomic_folder.write_lock(folder, reporter=reporter):
        atomic_folder.recover(folder)  # of format 1
        if request.rebuild and is_index(folder):
            changes = _Update(folder, request, REBUILD).run(embed, reporter)
            rebuild.adopt(folder)
            remove_format_1(folder)
            remove_leftovers(folder)
        else:
            if is_index(folder):
                _check_model(folder, request.model)
                upgrade_locked(folder)
            rebuild.discard(folder)
            remove_leftovers(folder)
            changes = _Update(folder, request, ITEMS).run(embed, reporter)
        write_summary(folder, changes.metadata)
        return changes


class _Update:
    """One run of ``update_index``, after its arguments have been checked. ``name`` is that of the database."""

    def __init__(self, folder: Path, request: IndexRequest, name: str) -> None:
        self.folder, self.request, self.scan, self.name = folder, request, request.scan, name
        self.visible = _try_read_metadata(folder)  # of the index that is being rebuilt, or updated
        self.old: IndexMetadata | None = None  # of the database before this update

    def run(self, embed: Callable[[], ImageVectors], reporter: Reporter) -> IndexChanges:
        check_roots(self.scan, self._known_roots(), self.request.remove_missing)
        with self._open_old() as index:
            self.old = None if index is None else index.metadata
            plan, moved, absent, versions = self._compare(index, reporter)
        interim = self._interim_metadata()
        with IndexWriter(self.folder, self.folder / self.name, self.old or interim) as writer:
            embedder = FileEmbedder(writer, interim, versions, embed)
            with interrupts.resumable(lambda: _resume_hint(plan, embedder)):
                embedder.embed(plan.to_embed, reporter)
            num_heic = sum(file.category is Category.HEIC for file in embedder.unreadable)
            _keep_unreadable_items(plan, embedder.unreadable)
            unreadable = sorted([*plan.unreadable, *embedder.unreadable], key=lambda file: path_key(file.path))
            if not (plan.num_unchanged or embedder.num_found or (self.request.remove_missing and plan.stale)):
                raise _only_heic(self.scan.roots, num_heic) if num_heic else _nothing_readable(self.scan, unreadable)
            with writer.transaction(self._new_metadata(moved, absent)) as change:
                embedder.put_rest(change)
                new_paths = {item.path for item in embedder.items}
                change.delete(entry.id for path, entry in plan.stale.items() if path not in new_paths)
                versions.record(change)
                change.set_unreadable(unreadable)
            writer.add_missing_indexes()
            if self.request.store:
                convert(writer)
            merge_segments(writer, embedder.num_computed)
            fill_missing_facts(writer, self.scan.files, reporter)
            return IndexChanges(
                metadata=writer.metadata,
                **_count_changes(plan, embedder.items),
                num_computed=embedder.num_computed,
                unreadable=tuple(unreadable),
                kept=_kept(plan, {**{file.path: file.reason for file in unreadable}, **absent}),
                moved_roots=tuple(moved),
                num_heic=num_heic,
                num_recomputed=versions.num_recomputed(writer.items),
                num_uncompared=versions.num_uncompared(writer.items),
            )

    def _known_roots(self) -> KnownRoots:
        """The folders of the index, and how many photos it has in them; none if it cannot be read."""
        name, scanned = index_name(self.folder), {**self.scan.unreachable_roots, **self.scan.empty_roots}
        counts = dict.fromkeys(scanned, 0)
        if scanned:
            with contextlib.suppress(XmodalError), open_index(self.folder) as index:
                counts = {root: index.items.count_under(root) for root in scanned}
        return KnownRoots(name, self.visible.roots if self.visible else (), counts)

    @contextlib.contextmanager
    def _open_old(self) -> Iterator[Index | None]:
        if self.name == REBUILD:
            index = rebuild.open_unfinished(self.folder, self._first_metadata())
        else:
            index = open_index(self.folder) if is_index(self.folder) else None
        if index is None:
            yield None
            return
        with index:
            _check_store(index, self.folder, self.request.store)
            yield index

    def _compare(
        self, index: Index | None, reporter: Reporter
    ) -> tuple[UpdatePlan, list[str], dict[str, str], VectorVersions]:
        """The work to do, the moved and the absent folders, and the vectors of earlier versions of decoding."""
        visible_mounts = self.visible.mounts if self.visible else ()
        absent = absent_paths(self.scan, visible_mounts, self.request.remove_missing)
        if index is None:
            return make_plan(None, self.scan, (), absent), [], absent, VectorVersions([])
        moved = moved_roots(index.metadata.roots, index.metadata.mounts, index.items, self.scan)
        known, roots = index.metadata, (*self.scan.roots, *moved)
        is_complete = not known.vectors and set(outermost([*known.roots, *roots])) <= set(roots)
        plan = make_plan(index.items, self.scan, roots, absent, is_complete)
        versions = VectorVersions(index.items.of_other_decoding())
        versions.revise(plan, self.scan, index.metadata.decoding != DECODING, reporter)
        return plan, moved, absent, versions

    def _first_metadata(self) -> IndexMetadata:
        """The metadata of a new database."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        recall, store = (self.visible.recall, self.visible.store) if self.visible else (RECALL, STORES[0])
        return IndexMetadata(
            build="",
            model=self.request.model,
            recall=self.request.recall or recall,
            roots=self._roots([]),
            num_items=0,
            num_unreadable=0,
            created=now,
            updated=now,
            exclude=self.request.exclude,
            store=self.request.store or store,
        )

    def _interim_metadata(self) -> IndexMetadata:
        """That of the commits before the last one: with the folders of photos that are still to be removed."""
        if self.old is None:
            return self._first_metadata()
        return replace(self.old, roots=self._roots([]), exclude=self.request.exclude)

    def _new_metadata(self, moved: Sequence[str], absent: Mapping[str, str]) -> IndexMetadata:
        base = self.old or self._first_metadata()
        mounts = {mount for mount in base.mounts if mount in absent or not self._is_scanned(mount)}
        return replace(
            base,
            model=self.request.model,
            recall=self.request.recall or base.recall,
            store=self.request.store or base.store,
            roots=self._roots(moved),
            mounts=tuple(sorted(mounts | {mount for mount, has_entries in self.scan.mounts.items() if has_entries})),
            exclude=self.request.exclude,
            decoding=DECODING,
        )

    def _roots(self, moved: Sequence[str]) -> tuple[str, ...]:
        roots = [root for root in (*(self.old.roots if self.old else ()), *self.scan.roots) if root not in moved]
        return outermost([root for root in roots if root not in self.scan.unreachable_roots]) or outermost(roots)

    def _is_scanned(self, path: str) -> bool:
        return any(is_under(path, root) for root in self.scan.roots)


def _resume_hint(plan: UpdatePlan, embedder: FileEmbedder) -> str:
    done, total = plan.num_unchanged + len(embedder.items), plan.num_unchanged + len(plan.to_embed)
    return interrupts.hint_of(done, total, "photos", "are indexed")


def _kept(plan: UpdatePlan, reasons: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    return {path: (reasons[path], count) for path, count in plan.kept.items()}


def _keep_unreadable_items(plan: UpdatePlan, unreadable: Sequence[UnreadableFile]) -> None:
    """A changed photo that cannot be read for a reason that may change keeps its vector until it can be read."""
    for file in unreadable:
        if file.mtime_ns == RETRY and plan.stale.pop(file.path, None) is not None:
            plan.num_unchanged += 1
            plan.kept[file.path] += 1


def _check_model(folder: Path, model: IndexModel) -> None:
    """Raises IncompatibleFeatures if an index has the vectors of another model."""
    old = read_metadata(folder).model
    if old.fingerprint != model.fingerprint:
        word = model_word(model.name, model.source)
        command = index_command("--model", word, "--rebuild", index=index_name(folder))
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by the model {old.name} ({old.fingerprint[:8]}), "
            f"not by {model.name} ({model.fingerprint[:8]})",
            f"rebuild all of it with this model: {command}; or create another index: --index NAME",
        )


def _check_store(index: Index, folder: Path, store: str | None) -> None:
    if store == "fp32" and any(part.layout.dtype != store for part in index.vectors.parts):
        name = index_name(folder)
        raise ConfigError(
            f"the index {name!r} has vectors in half precision, which cannot be made exact",
            f"compute them again: {index_command('--store', 'fp32', '--rebuild', index=name)}",
        )


def _try_read_metadata(folder: Path) -> IndexMetadata | None:
    """The metadata of an index, or None if it cannot be read."""
    try:
        return read_metadata(folder)
    except XmodalError:
        return None


def _count_changes(plan: UpdatePlan, new: Sequence[Item]) -> dict[str, int]:
    """A photo deleted at one path and added at another was moved; one with identical bytes is unchanged."""
    new_paths = {item.path for item in new}
    removed = Counter(entry.item.digest for path, entry in plan.stale.items() if path not in new_paths)
    counts = {"added": 0, "updated": 0, "moved": 0, "removed": removed.total(), "unchanged": plan.num_unchanged}
    for item in new:
        if (before := plan.stale.get(item.path)) is not None:
            counts["unchanged" if before.item.digest == item.digest else "updated"] += 1
        elif removed[item.digest] > 0:
            removed[item.digest] -= 1
            counts["moved"] += 1
            counts["removed"] -= 1
        else:
            counts["added"] += 1
    return counts


def _only_heic(roots: Sequence[str], num_heic: int) -> BadData:
    return BadData(
        f"{', '.join(roots)}: all {num_heic} photos are HEIC files, which need pillow-heif", format_hint(Category.HEIC)
    )


def _nothing_readable(scan: Scan, unreadable: Sequence[UnreadableFile]) -> BadData:
    first = f"; the first, {unreadable[0].path}: {unreadable[0].reason}" if unreadable else ""
    return BadData(
        f"none of the {len(unreadable)} photos in {', '.join(scan.roots)} can be read{first}",
        "check whether an image viewer can open them; if not, the files are damaged",
    )
