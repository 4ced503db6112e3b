"""Fills in the size and date of photos whose headers were not read: those of an index that was upgraded.

Only headers are read, one file per digest, and committed in batches: an interrupted update continues with the others.
A file whose header cannot be read gets the width 0, so that it is not read by every update.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xmodal_cli.data.photo_facts import PhotoFacts, read_photo_facts
from xmodal_cli.data.scan import FoundFile
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.writer import IndexWriter

COMMIT_PHOTOS, COMMIT_SECONDS = 4096, 20.0  # photos of a commit, and seconds after which fewer are committed
_BLOCK, _READERS = 64, 8


def fill_missing_facts(writer: IndexWriter, files: Sequence[FoundFile], reporter: Reporter) -> None:
    """Fill in what the headers of the photos in ``files`` have; those that have changed since are left out."""
    rows = list(writer.items.without_facts())
    known = {file.path: file for file in files} if rows else {}
    pending = list({digest: known[path] for digest, path in rows if path in known}.items())
    if not pending:
        return
    found, last_commit = list[tuple[bytes, PhotoFacts]](), time.monotonic()
    with reporter.task("reading dates", len(pending), "photos") as task, ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(pending), _BLOCK):
            block = pending[start : start + _BLOCK]
            facts = pool.map(_read, (file for _, file in block))
            found += [(digest, fact) for (digest, _), fact in zip(block, facts, strict=True) if fact is not None]
            if len(found) >= COMMIT_PHOTOS or time.monotonic() - last_commit > COMMIT_SECONDS:
                _commit(writer, found)
                found, last_commit = [], time.monotonic()
            task.advance(len(block))
    _commit(writer, found)


def _commit(writer: IndexWriter, found: Sequence[tuple[bytes, PhotoFacts]]) -> None:
    with writer.transaction() as change:
        change.set_facts(found)


def _read(file: FoundFile) -> PhotoFacts | None:
    """None for a file that cannot be read now, or that has changed."""
    facts = read_photo_facts(Path(file.path))
    is_same = size_and_mtime(file.path) == (file.size, file.mtime_ns)
    return facts if is_same and facts.width is not None else None
