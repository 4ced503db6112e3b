"""Finds the vector of every new or changed file: by its bytes among those known, else by computing it.

Identical bytes have one vector, whatever the file is called: a renamed, copied or half-done file costs only
the reading of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.retrieval.index import Index, IndexModel
from xmodal_cli.retrieval.items import Item, Unreadable
from xmodal_cli.retrieval.journal import Journal
from xmodal_cli.retrieval.plan import Placed
from xmodal_cli.retrieval.scan import FoundFile
from xmodal_cli.types import ImageVectors, ProgressTask, Reporter

CHUNK = 512  # files read, then embedded, at a time: the second reading comes from the system's memory
_READERS = 4
_GONE = ""  # the reason of a file that vanished: it is not listed


def digest_of(path: str) -> bytes:
    """BLAKE2b-128 of a file's bytes. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


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
        self._encoder: ImageVectors | None = None
        self._reasons: dict[bytes, str] = {}
        self.refused: list[Unreadable] = []
        self.num_computed = 0

    def resolve(self, files: Sequence[FoundFile], reporter: Reporter) -> list[Placed]:
        """One placed item per readable file, in order."""
        placed: list[Placed] = []
        if not files:
            return placed
        with reporter.task("indexing", len(files), "photos") as task, ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(files), CHUNK):
                chunk = files[start : start + CHUNK]
                digests = list(pool.map(_try_digest, chunk))
                self._compute(zip(chunk, digests, strict=True), task)
                placed.extend(self._place(chunk, digests))
        return placed

    def _compute(self, chunk: Iterable[tuple[FoundFile, bytes | Unreadable]], task: ProgressTask) -> None:
        """Compute what no source has; bytes that occur twice are computed once."""
        wanted: dict[bytes, str] = {}
        for file, digest in chunk:
            if isinstance(digest, bytes) and digest not in wanted and self._is_new(digest):
                wanted[digest] = file.path
            else:
                task.advance()
        if not wanted:
            return
        self._encoder = self._encoder or self._embed()
        answers = self._encoder([Path(p) for p in wanted.values()])
        for digest, (_, vector) in zip(wanted, answers, strict=True):
            self._keep(digest, vector)
            task.advance()
        self._sources.flush()

    def _is_new(self, digest: bytes) -> bool:
        return digest not in self._reasons and self._sources.find(digest) is None

    def _keep(self, digest: bytes, vector: np.ndarray | str) -> None:
        if isinstance(vector, str):
            self._reasons[digest] = vector
            return
        if vector.shape != (self._model.embed_dim,):
            raise IncompatibleFeatures(
                f"{self._model.name} gave a vector of shape {vector.shape}, not ({self._model.embed_dim},)",
                "the model file and its description do not agree; make the model file again",
            )
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0.0:
            self._reasons[digest] = "the model gave no usable vector for it"
            return
        self._sources.add(digest, vector / length if self._model.similarity == "cosine" else vector)
        self.num_computed += 1

    def _place(self, files: Sequence[FoundFile], digests: Sequence[bytes | Unreadable]) -> Iterator[Placed]:
        for file, digest in zip(files, digests, strict=True):
            if isinstance(digest, Unreadable):
                if digest.reason != _GONE:
                    self.refused.append(digest)
            elif (number := self._sources.find(digest)) is not None:
                yield Item(file.path, file.size, file.mtime_ns, digest), number
            elif Path(file.path).exists():
                reason = self._reasons[digest]
                self.refused.append(Unreadable(file.path, file.size, file.mtime_ns, reason))


def _try_digest(file: FoundFile) -> bytes | Unreadable:
    try:
        return digest_of(file.path)
    except FileNotFoundError:
        return Unreadable(file.path, file.size, -1, _GONE)
    except OSError as error:  # of the moment, perhaps: -1 has it tried again next time
        return Unreadable(file.path, file.size, -1, error.strerror or str(error))
