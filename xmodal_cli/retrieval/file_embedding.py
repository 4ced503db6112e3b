"""The vectors of new and changed files: looked up by the digest of their bytes, else computed; committed in batches.

Files with identical bytes share a vector: a renamed or copied file is only read. What an interrupted update has
committed is in the index; the next update does not read these files again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.photo_facts import PhotoFacts, read_photo_facts
from xmodal_cli.data.scan import FoundFile
from xmodal_cli.errors import Category, IncompatibleFeatures, XmodalError
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.retrieval.file_hashing import DELETED, HashedFile, hash_ahead
from xmodal_cli.retrieval.index_transaction import IndexTransaction, Location
from xmodal_cli.retrieval.items import RETRY, IndexedItem, Item, UnreadableFile
from xmodal_cli.retrieval.merging import merge_segments
from xmodal_cli.retrieval.metadata import IndexMetadata
from xmodal_cli.retrieval.vector_versions import VectorVersions
from xmodal_cli.retrieval.writer import IndexWriter
from xmodal_cli.types import ImageVectors, Unreadable

COMMIT_VECTORS, COMMIT_SECONDS = 512, 20.0  # vectors of a commit, and seconds after which fewer are committed
_READERS = 4
_CHANGED = "it changed while it was being read; index it again"


@dataclass(frozen=True)
class _Computed:
    """A file, its vector (dim,), and what its header has."""

    hashed: HashedFile
    vector: np.ndarray
    facts: PhotoFacts


class FileEmbedder:
    """Embeds files and commits their vectors in batches; ``interim`` is the metadata of these commits.

    ``items`` are the photos that were committed, ``unreadable`` the files without a vector; ``num_computed`` counts
    computed vectors.
    """

    def __init__(
        self, writer: IndexWriter, interim: IndexMetadata, versions: VectorVersions, embed: Callable[[], ImageVectors]
    ) -> None:
        self._writer, self._interim, self._versions, self._embed = writer, interim, versions, embed
        self._lock = threading.RLock()  # files may be looked up by another thread than that of the commits
        self._seen = set[bytes]()  # digests of the files that are, or will be, embedded
        self._facts: dict[bytes, Future[PhotoFacts]] = {}
        self._failures: dict[bytes, Unreadable] = {}
        self._computed: list[_Computed] = []
        self._known: list[tuple[HashedFile, IndexedItem]] = []
        self._left: list[HashedFile] = []  # whose vector depends on that of another file, or that have changed
        self._copies: list[HashedFile] = []  # files with the bytes of one in ``_computed``
        self._last_commit = time.monotonic()
        self.items: list[Item] = []
        self.unreadable: list[UnreadableFile] = []
        self.num_computed = 0

    @property
    def num_found(self) -> int:
        """The number of photos that have a vector, committed or not."""
        return len(self.items) + len(self._pending())

    def embed(self, files: Sequence[FoundFile], reporter: Reporter) -> None:
        """Embed ``files``. The last batch is left to ``put_rest``; an interruption commits it."""
        if not files:
            return
        with reporter.task("indexing", len(files), "photos") as task, ThreadPoolExecutor(_READERS) as pool:
            try:
                self._compute(self._select_new(pool, files, task), task)
            except BaseException:
                with contextlib.suppress(XmodalError):  # the first error is the reason
                    self._commit()
                raise
        pending = {entry.hashed.digest for entry in self._computed}
        for hashed in self._left:
            self._resolve(hashed, pending)

    def put_rest(self, change: IndexTransaction) -> None:
        """Add the photos that are not yet committed."""
        vectors, items = [entry.vector for entry in self._computed], list[Item]()
        location_of: dict[bytes, tuple[Item, Location]] = {}
        if vectors:
            matrix = np.stack(vectors)
            new = self._writer.write_vectors(len(matrix), matrix.__getitem__)
            change.add_segment(new.segment)
            for position, entry in zip(new.positions.tolist(), self._computed, strict=True):
                item = _item(entry.hashed, entry.facts)
                location_of[item.digest] = item, (new.segment.id, position)
        for hashed, known in self._known:
            location_of[hashed.digest] = known.item, (known.segment, known.position)
        for hashed in self._pending():
            source, location = location_of[hashed.digest]
            items.append(_item(hashed, PhotoFacts(source.width, source.height, source.taken)))
            change.put(items[-1], location)
        self.items += items

    def _pending(self) -> list[HashedFile]:
        return [entry.hashed for entry in self._computed] + [hashed for hashed, _ in self._known] + self._copies

    def _commit(self) -> None:
        if not self._computed:
            return
        with self._lock:
            num_items = len(self.items)
            try:
                with self._writer.transaction(self._interim) as change:
                    self.put_rest(change)
            except BaseException:
                del self.items[num_items:]
                raise
            self._computed.clear()
            self._known.clear()
            merge_segments(self._writer, self.num_computed)
            self._last_commit = time.monotonic()

    def _select_new(
        self, pool: ThreadPoolExecutor, files: Sequence[FoundFile], task: ProgressTask
    ) -> Iterator[HashedFile]:
        """Yield one file per digest without a known vector."""
        for file in hash_ahead(pool, files):
            if isinstance(file, HashedFile) and self._is_new(file):
                self._facts[file.digest] = pool.submit(read_photo_facts, Path(file.file.path))
                yield file
                continue
            if isinstance(file, UnreadableFile) and file.reason != DELETED:
                self.unreadable.append(file)
            task.advance()

    def _is_new(self, hashed: HashedFile) -> bool:
        with self._lock:
            if hashed.digest in self._seen:
                self._left.append(hashed)
                return False
            if (known := self._find(hashed)) is not None:
                self._known.append((hashed, known))
                return False
            self._seen.add(hashed.digest)
            return True

    def _find(self, hashed: HashedFile) -> IndexedItem | None:
        """A photo of the index with the same bytes, whose vector is that of its pixels."""
        found = self._writer.items.find_digest(hashed.digest) if self._writer.exists() else None
        if found is None or found.item.decoding == DECODING:
            return found
        return found if self._versions.is_current(hashed.digest, hashed.file.path) else None

    def _compute(self, files: Iterator[HashedFile], task: ProgressTask) -> None:
        """Embed all files in one stream, in which reading, decoding and the network overlap."""
        first = next(files, None)
        if first is None:
            return
        pending = deque[HashedFile]()

        def paths() -> Iterator[Path]:
            for file in chain([first], files):
                pending.append(file)
                yield Path(file.file.path)

        for _, vector in self._embed()(paths()):
            self._add(pending.popleft(), vector)
            task.advance()
            is_late = time.monotonic() - self._last_commit > COMMIT_SECONDS
            if len(self._computed) >= COMMIT_VECTORS or is_late:
                self._commit()

    def _add(self, hashed: HashedFile, vector: np.ndarray | Unreadable) -> None:
        facts = self._facts.pop(hashed.digest)
        if _status(hashed.file.path) != hashed.file:
            self._left.append(hashed)  # the vector may be of other bytes than the digest
            return
        if isinstance(vector, Unreadable):
            self._failures[hashed.digest] = vector
            self._left.append(hashed)
            return
        model = self._writer.metadata.model
        if vector.shape != (model.embed_dim,):
            raise IncompatibleFeatures(
                f"{model.name} computed a vector of shape {vector.shape}, not ({model.embed_dim},)",
                "the model file does not match its description; export the model again",
            )
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm == 0.0:
            path, reason = Path(hashed.file.path), "its vector is zero or not finite"
            self._failures[hashed.digest] = Unreadable(path, reason, Category.NOT_FINITE)
            self._left.append(hashed)
            return
        if array_similarity(model.similarity).inner_product:
            vector = vector / norm
        self._computed.append(_Computed(hashed, vector, facts.result()))
        self.num_computed += 1

    def _resolve(self, hashed: HashedFile, pending: set[bytes]) -> None:
        """Use the vector that was computed for another file with the same bytes, or record why there is none."""
        file = hashed.file
        if hashed.digest in pending:
            self._copies.append(hashed)
        elif (known := self._find(hashed)) is not None:
            self._known.append((hashed, known))
        elif (failed := self._failures.get(hashed.digest)) is not None:
            mtime_ns = RETRY if failed.may_change else file.mtime_ns
            self.unreadable.append(UnreadableFile(file.path, file.size, mtime_ns, failed.reason, failed.category))
        elif _status(file.path) is not None:
            self.unreadable.append(UnreadableFile(file.path, file.size, RETRY, _CHANGED, Category.UNREADABLE))


def _item(hashed: HashedFile, facts: PhotoFacts) -> Item:
    file = hashed.file
    return Item(file.path, file.size, file.mtime_ns, hashed.digest, DECODING, facts.width, facts.height, facts.taken)


def _status(path: str) -> FoundFile | None:
    """The current size and modification time of a file; None if it does not exist."""
    status = size_and_mtime(path)
    return None if status is None else FoundFile(path, *status)
