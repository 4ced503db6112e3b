"""All photos of an index, the newest first, by the order of two SQLite indexes instead of a date computed per photo.

The date of a photo without EXIF date is its modification time in local time, which depends on the time zone and cannot
be indexed. The indexed order, that of UTC, differs from it only where clocks are set back: a photo is returned
when no photo that was not read yet can come before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cmp_to_key
from heapq import merge
from typing import Generic, NamedTuple, TypeVar

from xmodal_cli.retrieval.conditions import SECONDS

Entry = TypeVar("Entry")


class Dated(NamedTuple, Generic[Entry]):
    """A photo and what orders it; ``date`` is an ISO 8601 time."""

    date: str
    path: bytes
    mtime_ns: int
    entry: Entry


Select = Callable[[str, tuple[int, ...]], Iterator[Dated[Entry]]]  # condition, order and limit, and their values

# the latest local time of any photo that was modified at ?1 or earlier: the offsets of a zone differ by 26 hours at
# most, and each is in effect for more than half an hour
LATEST = """
WITH RECURSIVE times(t) AS (VALUES (?1 / 1000000000) UNION ALL SELECT t - 1800 FROM times LIMIT 53)
SELECT strftime('%Y-%m-%dT%H:%M:%S',
                ?1 / 1000000000 + max(CAST(strftime('%s', t, 'unixepoch', 'localtime') AS INTEGER) - t), 'unixepoch')
FROM times
"""


def newest_first(select: Select[Entry], latest: Callable[[int], str], first_page: int) -> Iterator[Entry]:
    """All photos by descending date, those of one date by path; read in pages that grow from ``first_page``.

    ``select`` returns photos with their dates, ``latest`` the result of ``LATEST``.
    """
    taken = _pages(select, "taken IS NOT NULL ORDER BY taken DESC, path", first_page)
    modified = _pages(select, f"taken IS NULL ORDER BY {SECONDS} DESC, path", first_page)
    dated = (photo for page in taken for photo in page)
    for photo in merge(dated, _by_local_time(modified, latest), key=cmp_to_key(_compare)):
        yield photo.entry


def _pages(select: Select[Entry], statement: str, size: int) -> Iterator[list[Dated[Entry]]]:
    """Each page is four times as large as the one before it."""
    start = 0
    while page := list(select(f"{statement} LIMIT ? OFFSET ?", (size, start))):
        yield page
        start, size = start + len(page), 4 * size


def _by_local_time(pages: Iterator[list[Dated[Entry]]], latest: Callable[[int], str]) -> Iterator[Dated[Entry]]:
    """Photos in the order of UTC and path -> the same in the order of local time and path."""
    pending: list[Dated[Entry]] = []
    for page in pages:
        pending = sorted(pending + page, key=cmp_to_key(_compare))
        last = page[-1]
        limit = latest(last.mtime_ns)
        # if no clock was set back, all photos that follow come after the last one
        count = pending.index(last) + 1 if limit == last.date else sum(photo.date > limit for photo in pending)
        yield from pending[:count]
        pending = pending[count:]
    yield from pending


def _compare(first: Dated[Entry], second: Dated[Entry]) -> int:
    if first.date != second.date:
        return -1 if first.date > second.date else 1
    return -1 if first.path < second.path else 1
