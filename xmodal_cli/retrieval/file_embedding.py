"""The vectors of new and changed files: looked up by the digest of their bytes, else computed.

Files with identical bytes share a vector: a renamed or copied file, or one of an interrupted update, is only read.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.image_content import check_content
from xmodal_cli.data.scan import FoundFile
from xmodal_cli.errors import Category, IncompatibleFeatures
from xmodal_cli.file_identity import open_regular, size_and_mtime
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.retrieval.index import Index, IndexModel
from xmodal_cli.retrieval.items import Item, UnreadableFile
from xmodal_cli.retrieval.journal import Journal
from xmodal_cli.retrieval.plan import IndexedItem
from xmodal_cli.retrieval.vector_versions import VectorVersions
from xmodal_cli.types import ImageVectors, Unreadable

AHEAD = 64  # files hashed ahead of embedding: the second read comes from the page cache
FLUSH = 512  # vectors between two flushes to disk
_READERS = 4
_DELETED = ""  # the reason of a file deleted during the update: it is not listed
_CHANGED = "it changed while it was being read; index it again"


def file_digest(path: str) -> bytes:
    """BLAKE2b-128 of a file's bytes. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, _blake).digest()


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file and the digest of its bytes; its size and modification time are those when it was read."""

    file: FoundFile
    digest: bytes


class KnownVectors:
    """The available vectors, addressed by row: first those of the old index, then those of the journal.

    ``versions`` finds those of an earlier version of decoding that no longer fit their photo.
    """

    def __init__(self, old: Index | None, journal: Journal, versions: VectorVersions) -> None:
        self._old, self._journal, self._versions = old, journal, versions
        self.num_old = 0 if old is None else len(old)

    def find(self, digest: bytes, path: str) -> int | None:
        """The row of the vector of the file ``path``, which has this digest, or None."""
        in_journal = self._journal.row(digest)
        if in_journal is not None and in_journal >= self._journal.num_before:
            return self.num_old + in_journal
        row = None if self._old is None else self._old.items.row_of_digest(digest)
        if row is None and in_journal is not None:
            row = self.num_old + in_journal
        return row if row is not None and self._versions.is_current(digest, path) else None

    def add(self, digest: bytes, vector: np.ndarray) -> None:
        """Append a computed vector to the journal. Raises StorageError."""
        self._journal.add(digest, vector)

    def flush(self) -> None:
        """Flush the journal to disk. Raises StorageError."""
        self._journal.flush()

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        is_old = rows < self.num_old
        new = self._journal.take(rows[~is_old] - self.num_old)
        vectors = np.empty((len(rows), new.shape[1]), np.float32)
        vectors[~is_old] = new
        if self._old is not None:
            vectors[is_old] = self._old.vectors.take(rows[is_old])
        return vectors


class FileEmbedder:
    """Embed files. ``unreadable`` collects the files without a vector, ``num_computed`` counts new vectors."""

    def __init__(self, known: KnownVectors, model: IndexModel, embed: Callable[[], ImageVectors]) -> None:
        self._known, self._model, self._embed = known, model, embed
        self._failures: dict[bytes, Unreadable] = {}
        self.unreadable: list[UnreadableFile] = []
        self.num_computed = 0

    def embed(self, files: Sequence[FoundFile], reporter: Reporter) -> list[IndexedItem]:
        """One (item, row in ``KnownVectors``) pair per readable file, in order."""
        if not files:
            return []
        hashed: list[HashedFile | UnreadableFile] = []
        with reporter.task("indexing", len(files), "photos") as task, ThreadPoolExecutor(_READERS) as pool:
            self._compute(self._select_new(_hash_ahead(pool, files), hashed, task), task)
        return list(self._look_up(hashed))

    def _select_new(
        self,
        files: Iterator[HashedFile | UnreadableFile],
        hashed: list[HashedFile | UnreadableFile],
        task: ProgressTask,
    ) -> Iterator[HashedFile]:
        """Yield one file per digest without a known vector; all files are appended to ``hashed``."""
        digests = set[bytes]()
        for file in files:
            hashed.append(file)
            if isinstance(file, HashedFile) and file.digest not in digests and self._is_new(file):
                digests.add(file.digest)
                yield file
            else:
                task.advance()

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

        for count, (_, vector) in enumerate(self._embed()(paths()), 1):
            self._add(pending.popleft(), vector)
            task.advance()
            if count % FLUSH == 0:
                self._known.flush()
        self._known.flush()

    def _is_new(self, hashed: HashedFile) -> bool:
        return hashed.digest not in self._failures and self._known.find(hashed.digest, hashed.file.path) is None

    def _add(self, hashed: HashedFile, vector: np.ndarray | Unreadable) -> None:
        if _status(hashed.file.path) != hashed.file:
            return  # the file has changed: the vector may be of other bytes than the digest
        if isinstance(vector, Unreadable):
            self._failures[hashed.digest] = vector
            return
        if vector.shape != (self._model.embed_dim,):
            raise IncompatibleFeatures(
                f"{self._model.name} computed a vector of shape {vector.shape}, not ({self._model.embed_dim},)",
                "the model file does not match its description; export the model again",
            )
        norm = float(np.linalg.norm(vector))
        if not np.isfinite(norm) or norm == 0.0:
            path, reason = Path(hashed.file.path), "its vector is zero or not finite"
            self._failures[hashed.digest] = Unreadable(path, reason, Category.NOT_FINITE)
            return
        if array_similarity(self._model.similarity).inner_product:
            vector = vector / norm
        self._known.add(hashed.digest, vector)
        self.num_computed += 1

    def _look_up(self, files: Sequence[HashedFile | UnreadableFile]) -> Iterator[IndexedItem]:
        for hashed in files:
            if isinstance(hashed, UnreadableFile):
                if hashed.reason != _DELETED:
                    self.unreadable.append(hashed)
                continue
            file = hashed.file
            if (row := self._known.find(hashed.digest, file.path)) is not None:
                yield Item(file.path, file.size, file.mtime_ns, hashed.digest), row
            elif (failed := self._failures.get(hashed.digest)) is not None:
                mtime_ns = -1 if failed.may_change else file.mtime_ns
                self.unreadable.append(UnreadableFile(file.path, file.size, mtime_ns, failed.reason, failed.category))
            elif _status(file.path) is not None:
                self.unreadable.append(UnreadableFile(file.path, file.size, -1, _CHANGED, Category.UNREADABLE))


def _hash_ahead(pool: ThreadPoolExecutor, files: Sequence[FoundFile]) -> Iterator[HashedFile | UnreadableFile]:
    """Hash ``files`` in order, up to ``AHEAD`` of them ahead of the consumer."""
    remaining = iter(files)
    queue = deque(pool.submit(_hash_file, file) for file in islice(remaining, AHEAD))
    while queue:
        yield queue.popleft().result()
        queue.extend(pool.submit(_hash_file, file) for file in islice(remaining, 1))


def _hash_file(file: FoundFile) -> HashedFile | UnreadableFile:
    try:
        if (problem := check_content(file.path)) is not None:
            mtime_ns = -1 if problem.may_change else file.mtime_ns
            return UnreadableFile(file.path, file.size, mtime_ns, problem.message, problem.category)
        with open_regular(file.path) as content:
            status = os.fstat(content.fileno())
            digest = hashlib.file_digest(content, _blake).digest()
        return HashedFile(FoundFile(file.path, status.st_size, status.st_mtime_ns), digest)
    except FileNotFoundError:
        return UnreadableFile(file.path, file.size, -1, _DELETED)
    except OSError as error:  # may be temporary: with -1 the next update tries again
        return UnreadableFile(file.path, file.size, -1, error.strerror or str(error), Category.UNREADABLE)


def _status(path: str) -> FoundFile | None:
    """The current size and modification time of a file; None if it does not exist."""
    status = size_and_mtime(path)
    return None if status is None else FoundFile(path, *status)


def _blake() -> Any:
    return hashlib.blake2b(digest_size=16)
