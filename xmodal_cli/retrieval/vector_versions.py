"""Finds the vectors of an index whose photos had other pixels in an earlier version of decoding.

These are photos with a color profile that changes colors (``data/decoding.py``), which their headers show. Vectors are
compared per digest, because files with identical bytes share one. Items of photos that cannot be compared now, because
they are absent or in other folders, keep their earlier version, and are compared by a later update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE, compare_decoding
from xmodal_cli.data.scan import FoundFile, Scan
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.items import RETRY, Item
from xmodal_cli.retrieval.plan import UpdatePlan

_READERS = 8
FindRow = Callable[[bytes, str], int | None]  # digest and path of a photo -> the row of its vector


class VectorVersions:
    """The vectors of ``items`` and the digests ``before`` of a journal that are of an earlier version of decoding.

    ``num_compared`` counts those found to be of the same pixels.
    """

    def __init__(self, items: Iterable[Item], before: Iterable[bytes]) -> None:
        self._version_of = dict.fromkeys(before, DECODING_BEFORE)
        self._version_of |= {item.digest: item.decoding for item in items if item.decoding != DECODING}
        self._outdated = set[bytes]()
        self.num_compared = 0

    def is_current(self, digest: bytes, path: str) -> bool:
        """Whether the known vector of the photo ``path`` is of the pixels that it has now."""
        if (version := self._version_of.get(digest)) is None:
            return digest not in self._outdated
        alike = compare_decoding(Path(path), version)
        self._set(digest, alike)
        return alike is True

    def is_outdated(self, item: Item) -> bool:
        """Whether the photo had other pixels in the version of its known vector."""
        return item.digest in self._outdated

    def revise(self, plan: UpdatePlan, scan: Scan, retry_unreadable: bool, reporter: Reporter) -> None:
        """Move the scanned photos whose vectors are outdated, or that could not be read, to ``plan.to_embed``."""
        if not self._version_of and not retry_unreadable:
            return
        scanned = {file.path: file for file in scan.files}
        self._compare({i.digest: i.path for i, _ in plan.unchanged if i.path in scanned}, reporter)
        unchanged, plan.unchanged = plan.unchanged, []
        for item, row in unchanged:
            if self.is_outdated(item) and item.path in scanned:
                plan.stale[item.path] = item, row
                plan.to_embed.append(scanned[item.path])
            else:
                plan.unchanged.append((self._with_version(item), row))
        if retry_unreadable:
            _retry_unreadable(plan, scanned)

    def replace_rows(self, plan: UpdatePlan, find: FindRow) -> None:
        """Give the absent copies of photos that were embedded again the new vectors."""
        if not self._outdated:
            return
        for position, (item, _) in enumerate(plan.unchanged):
            if self.is_outdated(item) and (row := find(item.digest, item.path)) is not None:
                plan.unchanged[position] = replace(item, decoding=DECODING), row

    def _compare(self, path_of: Mapping[bytes, str], reporter: Reporter) -> None:
        digests = [digest for digest in path_of if digest in self._version_of]
        paths = [Path(path_of[digest]) for digest in digests]
        versions = [self._version_of[digest] for digest in digests]
        if not digests:
            return
        with (
            reporter.task("reading color profiles", len(digests), "photos") as task,
            ThreadPoolExecutor(_READERS) as pool,
        ):
            for digest, alike in zip(digests, pool.map(compare_decoding, paths, versions), strict=True):
                self._set(digest, alike)
                task.advance()

    def _set(self, digest: bytes, alike: bool | None) -> None:
        if alike is None:
            return
        del self._version_of[digest]
        if alike:
            self.num_compared += 1
        else:
            self._outdated.add(digest)

    def _with_version(self, item: Item) -> Item:
        is_compared = item.digest not in self._version_of and item.digest not in self._outdated
        return replace(item, decoding=DECODING) if is_compared and item.decoding != DECODING else item


def _retry_unreadable(plan: UpdatePlan, scanned: Mapping[str, FoundFile]) -> None:
    """Photos that could not be read in an earlier version may be readable now."""
    unreadable, plan.unreadable = plan.unreadable, []
    for file in unreadable:
        if file.path in scanned:
            plan.to_embed.append(scanned[file.path])
        else:
            plan.unreadable.append(replace(file, mtime_ns=RETRY))
