"""Commits the photos and vectors of other indexes, for example of other machines, into an index; computes no vectors.

The other indexes are read and checked first: their models, all their pages and the checksums of all their vectors. One
transaction then adds all their photos, so that readers see them as a whole or not at all. Nothing is written for photos
that the index has already.

Of several photos with the same path the one with the latest modification time is kept, whatever the order of indexes.
Photos with the same bytes share a vector, as in an index of all folders that one machine has built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.data.decoding import DECODING, VERSIONS
from xmodal_cli.data.scan import outermost
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures, XmodalError
from xmodal_cli.paths import make_folder
from xmodal_cli.reporter import SILENT, ProgressTask, Reporter
from xmodal_cli.retrieval import rebuild, registry
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.index import Index, is_index, open_index
from xmodal_cli.retrieval.index_transaction import IndexTransaction, Location
from xmodal_cli.retrieval.integrity import check_snapshot
from xmodal_cli.retrieval.items import IndexedItem, Item, UnreadableFile
from xmodal_cli.retrieval.leftovers import remove_leftovers
from xmodal_cli.retrieval.merging import merge_segments
from xmodal_cli.retrieval.metadata import STORES, IndexMetadata, IndexModel
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.upgrade import upgrade_locked
from xmodal_cli.retrieval.writer import IndexWriter, write_summary

SEGMENT = 2**18  # vectors, whose photos are in memory, about 0.1 GB
_BLOCK = 500  # photos that are looked up at once


@dataclass
class CommitCounts:
    """The photos of the other indexes: ``added`` ones, ``updated`` ones of known paths, and ``unchanged`` ones.

    ``vectors`` were copied.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    vectors: int = 0


@dataclass(frozen=True)
class _CommitSource:
    """An index that was checked, and its metadata then."""

    folder: Path
    metadata: IndexMetadata
    is_fp16: bool


def commit_indexes(
    folder: Path, sources: Sequence[Path], model: IndexModel | None = None, reporter: Reporter = SILENT
) -> tuple[IndexMetadata, CommitCounts]:
    """Add the photos of the indexes ``sources`` to the index in ``folder``, which is created if it does not exist.

    ``model`` is the model of all of them under its name on this machine. Raises ConfigError for indexes that cannot be
    joined, IncompatibleFeatures for different models, MissingData and BadData for a source, StorageError.
    """
    registry.check_target(folder)
    if folder in sources:
        raise ConfigError(f"{folder} cannot be committed into itself", "leave it out, or choose another --index")
    _check_models(folder, [(source, read_metadata(source)) for source in sources], model)
    checked = [_check(source, reporter) for source in sources]
    with atomic_folder.write_lock(folder, reporter=reporter):
        atomic_folder.recover(folder)
        old = _prepare(folder, checked)
        _check_models(folder, [(source.folder, source.metadata) for source in checked], model)
        metadata = _join(old, checked, model, reporter)
        with IndexWriter(folder, folder / ITEMS, old or metadata) as writer:
            counts = _commit(writer, checked, metadata, reporter)
            writer.add_missing_indexes()
            merge_segments(writer, counts.vectors)
            metadata = writer.metadata
        write_summary(folder, metadata)
    return metadata, counts


def _prepare(folder: Path, sources: Sequence[_CommitSource]) -> IndexMetadata | None:
    """The metadata of the index, without leftovers of interrupted updates; None if it does not exist."""
    old = None
    if is_index(folder):
        upgrade_locked(folder)
        old = read_metadata(folder)
        _check_stores(folder, old, sources)
    make_folder(folder)
    rebuild.discard(folder)
    remove_leftovers(folder)
    return old


def _check(folder: Path, reporter: Reporter) -> _CommitSource:
    """Read a whole index. Raises MissingData, BadData, and ConfigError for one of imported vectors."""
    with open_index(folder) as index:
        if index.metadata.vectors:
            raise ConfigError(
                f"{folder} has imported vectors, whose photos are not known by their bytes",
                "import the vectors into an index of their own: xmodal vectors import",
            )
        try:
            check_snapshot(index, folder, reporter)
        except FileNotFoundError as error:
            raise _is_updated(folder) from error
        return _CommitSource(folder, index.metadata, any(part.layout.dtype == "fp16" for part in index.vectors.parts))


def _is_updated(folder: Path) -> BadData:
    return BadData(f"{folder} is being updated", "wait until it is complete, then run this command again")


def _check_models(folder: Path, sources: Sequence[tuple[Path, IndexMetadata]], model: IndexModel | None) -> None:
    """Raises IncompatibleFeatures unless all vectors are of one model."""
    indexes = [(folder, read_metadata(folder)), *sources] if is_index(folder) else sources
    models = [(f"the index {path}", metadata.model) for path, metadata in indexes]
    models += [("--model", model)] if model is not None else []
    first_name, first = models[0]
    for name, other in models[1:]:
        if other.fingerprint != first.fingerprint:
            raise IncompatibleFeatures(
                f"{first_name} has the model {first.name} ({first.fingerprint[:8]}), "
                f"{name} has {other.name} ({other.fingerprint[:8]})",
                "build them with the same model file, or commit them into different indexes",
            )


def _check_stores(folder: Path, old: IndexMetadata, sources: Sequence[_CommitSource]) -> None:
    """Raises ConfigError for vectors in half precision if the index has only exact ones."""
    for source in sources if old.store == "fp32" else ():
        if source.is_fp16:
            name = index_name(folder)
            raise ConfigError(
                f"{source.folder} has vectors in half precision, which cannot be made exact; the index {name!r} has "
                "exact ones",
                f"build it again with --store fp32; or store half precision: "
                f"{index_command('--store', 'fp16', index=name)}",
            )


def _join(
    old: IndexMetadata | None, sources: Sequence[_CommitSource], model: IndexModel | None, reporter: Reporter
) -> IndexMetadata:
    """The metadata of all indexes as one."""
    every = [*([] if old is None else [old]), *(source.metadata for source in sources)]
    first, now = every[0], datetime.now(UTC).isoformat(timespec="microseconds")
    exclude = tuple(pattern for pattern in first.exclude if all(pattern in one.exclude for one in every))
    left = dict.fromkeys(pattern for one in every for pattern in one.exclude if pattern not in exclude)
    if left:
        reporter.warn(
            f"not stored, because not all of these indexes exclude them: {', '.join(left)}; "
            "the next update adds these files, unless it gets the patterns by --exclude"
        )
    is_exact = all(one.store == "fp32" for one in every)
    new = replace(first, build="", created=now, recall=max(one.recall for one in every), calibration=None)
    return replace(
        new if old is None else old,
        model=model or first.model,
        store=first.store if old is not None else STORES[1] if is_exact else STORES[0],
        roots=outermost([root for one in every for root in one.roots]),
        mounts=tuple(sorted({mount for one in every for mount in one.mounts})),
        exclude=exclude,
        decoding=min((one.decoding for one in every), key=_decoding_order),
    )


def _commit(
    writer: IndexWriter, sources: Sequence[_CommitSource], metadata: IndexMetadata, reporter: Reporter
) -> CommitCounts:
    counts, unreadable = CommitCounts(), list[UnreadableFile]()
    total = sum(source.metadata.num_items for source in sources)
    try:
        with reporter.task("committing", total, "photos") as task, writer.transaction(metadata) as change:
            for source in sources:
                with open_index(source.folder) as index:
                    if index.metadata.build != source.metadata.build:
                        raise _is_updated(source.folder)
                    _Copier(writer, change, index, counts).copy(task)
                    unreadable += index.items.unreadable()
                    _copy_captions(change, index, source.folder, reporter)
            _set_unreadable(change, unreadable)
    except BaseException:
        with contextlib.suppress(XmodalError):  # the first error is the reason
            remove_leftovers(writer.folder)  # segments that were not committed
        raise
    return counts


@dataclass
class _Copier:
    """Copies the photos of an index, and those of its vectors that have no copy yet, in the order of its vectors."""

    writer: IndexWriter
    change: IndexTransaction
    source: Index
    counts: CommitCounts
    pending: list[tuple[Item, int]] = field(
        default_factory=list
    )  # photos, and the indices of their vectors in ``rows``
    rows: list[int] = field(default_factory=list)  # vectors of the source that are not written yet
    index_of: dict[tuple[bytes, str], int] = field(default_factory=dict)  # digest and decoding -> index in ``rows``

    def copy(self, task: ProgressTask) -> None:
        entries = self.source.items.by_vector()
        while block := list(islice(entries, _BLOCK)):
            for entry in self._select(block):
                self._add(entry)
            if len(self.rows) >= SEGMENT:
                self._write()
            task.advance(len(block))
        self._write()

    def _select(self, block: Sequence[IndexedItem]) -> Iterator[IndexedItem]:
        """The photos of ``block`` that the index does not have, or only in an earlier version."""
        paths = [entry.item.path for entry in block]
        known = {entry.item.path: entry.item for entry in self.change.items.of_paths(paths)}
        for entry in block:
            old = known.get(entry.item.path)
            if old is None:
                self.counts.added += 1
            elif _version(entry.item) > _version(old):
                self.counts.updated += 1
            else:
                self.counts.unchanged += 1
                continue
            yield entry

    def _add(self, entry: IndexedItem) -> None:
        item, known = entry.item, self.change.items.find_digest(entry.item.digest)
        if known is not None and known.item.decoding in (item.decoding, DECODING):
            self.change.put(replace(item, decoding=known.item.decoding), (known.segment, known.position))
            return
        key = item.digest, item.decoding
        if key not in self.index_of:
            self.index_of[key] = len(self.rows)
            self.rows.extend(self.source.vectors.rows_of([entry]).tolist())
        self.pending.append((item, self.index_of[key]))

    def _write(self) -> None:
        if not self.rows:
            return
        rows, vectors = np.array(self.rows, np.int64), self.source.vectors
        written = self.writer.write_vectors(len(rows), lambda chosen: vectors.take_once(rows[chosen]))
        self.change.add_segment(written.segment)
        for item, index in self.pending:
            location: Location = written.segment.id, int(written.positions[index])
            self.change.put(item, location)
        self.counts.vectors += len(rows)
        self.pending.clear()
        self.rows.clear()
        self.index_of.clear()


def _version(item: Item) -> tuple[int, int, int, bytes]:
    """Photos with the same path in order: by modification time, then by what is arbitrary but always the same."""
    return item.mtime_ns, _decoding_order(item.decoding), item.size, item.digest


def _decoding_order(version: str) -> int:
    return VERSIONS.index(version) if version in VERSIONS else -1


def _set_unreadable(change: IndexTransaction, found: Sequence[UnreadableFile]) -> None:
    """Add files without vectors, unless the index has the photo; of several with a path the latest."""
    latest = {file.path: file for file in sorted([*change.items.unreadable(), *found], key=_state)}
    photos = {entry.item.path for entry in change.items.of_paths(list(latest))}
    change.set_unreadable([file for path, file in latest.items() if path not in photos])


def _state(file: UnreadableFile) -> tuple[int, int, str, str]:
    return file.mtime_ns, file.size, file.reason, file.category.value


def _copy_captions(change: IndexTransaction, source: Index, folder: Path, reporter: Reporter) -> None:
    """Copy captions if they are by the model, with the settings, of the captions of the index, or if it has none."""
    captioner = source.items.captioner()
    if captioner is None:
        return
    if change.items.captioner() not in (None, captioner):
        reporter.warn(f"the captions in {folder} are of another model or other settings, and are not copied")
        return
    change.add_captions(captioner, source.items.captions())
