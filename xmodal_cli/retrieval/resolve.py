"""Finds the vector of every new or changed file: by its bytes among those known, else by computing it.

Identical bytes have one vector, whatever the file is called: a renamed, copied or half-done file costs only
the reading of it.
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

from xmodal_cli.data.scan import FoundFile
from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.retrieval.index import Index, IndexModel
from xmodal_cli.retrieval.items import Item, UnreadableFile
from xmodal_cli.retrieval.journal import Journal
from xmodal_cli.retrieval.plan import Placed
from xmodal_cli.types import ImageVectors, Unreadable

AHEAD = 64  # files read before they are embedded: the second reading comes from the system's memory
FLUSH = 512  # vectors that a power cut may cost
_READERS = 4
_GONE = ""  # the reason of a file that vanished: it is not listed
_CHANGED = "it changed while it was being read; index it again"


def digest_of(path: str) -> bytes:
    """BLAKE2b-128 of a file's bytes. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, _blake).digest()


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file's bytes by their digest; size and time are those it had when they were read."""

    file: FoundFile
    digest: bytes


class VectorSources:
    """Vectors at hand under one numbering: those of the old index by row, then those of the journal."""

    def __init__(self, old: Index | None, journal: Journal) -> None:
        self._old, self._journal = old, journal
        self.num_old = 0 if old is None else len(old)

    def find(self, digest: bytes) -> int | None:
        """The number of the vector of a file with these bytes."""
        row = None if self._old is None else self._old.items.row_of_digest(digest)
        if row is None and (row := self._journal.row(digest)) is not None:
            row += self.num_old
        return row

    def add(self, digest: bytes, vector: np.ndarray) -> None:
        """Keep a newly computed vector."""
        self._journal.add(digest, vector)

    def flush(self) -> None:
        """Make the newly computed vectors safe."""
        self._journal.flush()

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """(vectors,) -> (vectors, dim) float32."""
        mine = numbers < self.num_old
        new = self._journal.take(numbers[~mine] - self.num_old)
        vectors = np.empty((len(numbers), new.shape[1]), np.float32)
        vectors[~mine] = new
        if self._old is not None:
            vectors[mine] = self._old.vectors.take(numbers[mine])
        return vectors


class Resolver:
    """Turns files into placed items; ``refused`` and ``num_computed`` tell what happened on the way."""

    def __init__(self, sources: VectorSources, model: IndexModel, embed: Callable[[], ImageVectors]) -> None:
        self._sources, self._model, self._embed = sources, model, embed
        self._reasons: dict[bytes, str] = {}
        self.refused: list[UnreadableFile] = []
        self.num_computed = 0

    def resolve(self, files: Sequence[FoundFile], reporter: Reporter) -> list[Placed]:
        """One placed item per readable file, in order."""
        if not files:
            return []
        seen: list[ReadFile | UnreadableFile] = []
        with reporter.task("indexing", len(files), "photos") as task, ThreadPoolExecutor(_READERS) as pool:
            self._compute(self._unknown(_read_ahead(pool, files), seen, task), task)
        return list(self._place(seen))

    def _unknown(
        self, read: Iterator[ReadFile | UnreadableFile], seen: list[ReadFile | UnreadableFile], task: ProgressTask
    ) -> Iterator[ReadFile]:
        """Of all that is read, which is kept in ``seen``, what no source has; the same bytes come once."""
        asked = set[bytes]()
        for file in read:
            seen.append(file)
            if isinstance(file, ReadFile) and file.digest not in asked and self._is_new(file.digest):
                asked.add(file.digest)
                yield file
            else:
                task.advance()

    def _compute(self, unknown: Iterator[ReadFile], task: ProgressTask) -> None:
        """One stream over all that is wanted, so that reading, decoding and the network never wait for a new start."""
        first = next(unknown, None)
        if first is None:
            return
        waiting = deque[ReadFile]()

        def paths() -> Iterator[Path]:
            for file in chain([first], unknown):
                waiting.append(file)
                yield Path(file.file.path)

        for number, (_, vector) in enumerate(self._embed()(paths()), 1):
            self._keep(waiting.popleft(), vector)
            task.advance()
            if number % FLUSH == 0:
                self._sources.flush()
        self._sources.flush()

    def _is_new(self, digest: bytes) -> bool:
        return digest not in self._reasons and self._sources.find(digest) is None

    def _keep(self, read: ReadFile, vector: np.ndarray | Unreadable) -> None:
        if _stamp(read.file.path) != read.file:
            return  # whose vector this is nobody knows
        if isinstance(vector, Unreadable):
            self._reasons[read.digest] = vector.reason
            return
        if vector.shape != (self._model.embed_dim,):
            raise IncompatibleFeatures(
                f"{self._model.name} gave a vector of shape {vector.shape}, not ({self._model.embed_dim},)",
                "the model file and its description do not agree; make the model file again",
            )
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0.0:
            self._reasons[read.digest] = "the model gave no usable vector for it"
            return
        self._sources.add(
            read.digest, vector / length if array_similarity(self._model.similarity).inner_product else vector
        )
        self.num_computed += 1

    def _place(self, seen: Sequence[ReadFile | UnreadableFile]) -> Iterator[Placed]:
        for read in seen:
            if isinstance(read, UnreadableFile):
                if read.reason != _GONE:
                    self.refused.append(read)
                continue
            file = read.file
            if (number := self._sources.find(read.digest)) is not None:
                yield Item(file.path, file.size, file.mtime_ns, read.digest), number
            elif read.digest in self._reasons:
                self.refused.append(UnreadableFile(file.path, file.size, file.mtime_ns, self._reasons[read.digest]))
            elif _stamp(file.path) is not None:
                self.refused.append(UnreadableFile(file.path, file.size, -1, _CHANGED))


def _read_ahead(pool: ThreadPoolExecutor, files: Sequence[FoundFile]) -> Iterator[ReadFile | UnreadableFile]:
    """Each of ``files`` in order, read a little before it is asked for."""
    coming = iter(files)
    queue = deque(pool.submit(_try_read, file) for file in islice(coming, AHEAD))
    while queue:
        yield queue.popleft().result()
        queue.extend(pool.submit(_try_read, file) for file in islice(coming, 1))


def _try_read(found: FoundFile) -> ReadFile | UnreadableFile:
    try:
        with open(found.path, "rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, _blake).digest()
        return ReadFile(FoundFile(found.path, status.st_size, status.st_mtime_ns), digest)
    except FileNotFoundError:
        return UnreadableFile(found.path, found.size, -1, _GONE)
    except OSError as error:  # of the moment, perhaps: -1 has it tried again next time
        return UnreadableFile(found.path, found.size, -1, error.strerror or str(error))


def _stamp(path: str) -> FoundFile | None:
    """The file as it is now."""
    found = size_and_mtime(path)
    return None if found is None else FoundFile(path, *found)


def _blake() -> Any:
    return hashlib.blake2b(digest_size=16)
