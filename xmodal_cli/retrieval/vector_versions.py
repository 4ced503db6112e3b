"""Finds the vectors of an index whose photos had other pixels in an earlier version of decoding.

These are photos with a color profile that changes colors (``data/decoding.py``), which their headers show. Vectors are
compared per digest, because files with identical bytes share one. Photos that cannot be compared now, because they are
absent or in other folders, keep their earlier version, and are compared by a later update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from xmodal_cli.data.decoding import DECODING, compare_decoding
from xmodal_cli.data.scan import FoundFile, Scan
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.index_transaction import IndexTransaction
from xmodal_cli.retrieval.items import RETRY, IndexedItem, ItemStore
from xmodal_cli.retrieval.plan import UpdatePlan

_READERS = 8


class VectorVersions:
    """The photos ``items``, whose vectors are of an earlier version of decoding.

    ``current`` are the digests of those that were found to have the same pixels now, ``outdated`` of those that were
    found to have others.
    """

    def __init__(self, items: Sequence[IndexedItem]) -> None:
        self._items = items
        self._version_of = {entry.item.digest: entry.item.decoding for entry in items}
        self.current, self.outdated = set[bytes](), set[bytes]()

    def is_current(self, digest: bytes, path: str) -> bool:
        """Whether the vector of an earlier version is of the pixels that the photo ``path`` has now."""
        if (version := self._version_of.get(digest)) is not None:
            self._set(digest, compare_decoding(Path(path), version))
        return digest in self.current

    def revise(self, plan: UpdatePlan, scan: Scan, retry_unreadable: bool, reporter: Reporter) -> None:
        """Move the scanned photos whose vectors are outdated, or that could not be read, to ``plan.to_embed``."""
        if not self._items and not retry_unreadable:
            return
        scanned = {file.path: file for file in scan.files}
        unchanged = [e for e in self._items if e.item.path in scanned and e.item.path not in plan.stale]
        self._compare({entry.item.digest: entry.item.path for entry in unchanged}, reporter)
        for entry in unchanged:
            if entry.item.digest in self.outdated:
                plan.stale[entry.item.path] = entry
                plan.to_embed.append(scanned[entry.item.path])
                plan.num_unchanged -= 1
        if retry_unreadable:
            _retry_unreadable(plan, scanned)

    def record(self, change: IndexTransaction) -> None:
        """Record what was found, and give absent copies of photos that were embedded again the new vectors."""
        change.set_current(self.current)
        for entry in change.items.of_other_decoding() if self.outdated else []:
            new = change.items.find_digest(entry.item.digest)
            if entry.item.digest in self.outdated and new is not None and new.item.decoding == DECODING:
                change.set_vector(entry, (new.segment, new.position))

    def num_recomputed(self, items: ItemStore) -> int:
        """The number of photos whose outdated vector was replaced."""
        copies = (items.of_digest(digest) for digest in self.outdated)
        return sum(entry.item.decoding == DECODING for entries in copies for entry in entries)

    def num_uncompared(self, items: ItemStore) -> int:
        """The number of photos whose vector is still of an earlier version."""
        return len(items.of_other_decoding()) if self._items else 0

    def _compare(self, path_of: Mapping[bytes, str], reporter: Reporter) -> None:
        if not path_of:
            return
        paths = [Path(path) for path in path_of.values()]
        versions = [self._version_of[digest] for digest in path_of]
        with (
            reporter.task("reading color profiles", len(paths), "photos") as task,
            ThreadPoolExecutor(_READERS) as pool,
        ):
            for digest, alike in zip(path_of, pool.map(compare_decoding, paths, versions), strict=True):
                self._set(digest, alike)
                task.advance()

    def _set(self, digest: bytes, alike: bool | None) -> None:
        if alike is not None:
            del self._version_of[digest]
            (self.current if alike else self.outdated).add(digest)


def _retry_unreadable(plan: UpdatePlan, scanned: Mapping[str, FoundFile]) -> None:
    """Photos that could not be read in an earlier version may be readable now."""
    unreadable, plan.unreadable = plan.unreadable, []
    for file in unreadable:
        if file.path in scanned:
            plan.to_embed.append(scanned[file.path])
        else:
            plan.unreadable.append(replace(file, mtime_ns=RETRY))
