"""The photos of a query that has filters only: the newest first."""

from __future__ import annotations

from dataclasses import dataclass

from xmodal_cli.retrieval.conditions import Condition
from xmodal_cli.retrieval.index import Index
from xmodal_cli.retrieval.items import IndexedItem, Item
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.top_photos import MARGIN, is_present


@dataclass(frozen=True)
class NewestPhoto:
    """A hit without a score. ``duplicates`` is the number of further files with the same bytes."""

    item: Item
    duplicates: int = 0


def newest_photos(index: Index, options: SearchOptions, condition: Condition) -> tuple[list[NewestPhoto], int]:
    """The newest selected photos that exist, at most ``num_hits``, and the number of newer ones that do not exist.

    If there are fewer than ``num_hits``, all that do not exist are counted.
    """
    photos: list[NewestPhoto] = []
    digests = set[bytes]()
    num_missing = num_vanished = 0
    for entry in index.items.newest(condition, options.num_hits + MARGIN):
        if len(photos) == options.num_hits:
            break
        if not is_present(entry.item):
            num_missing += 1
        elif not options.fold or entry.item.digest not in digests:
            copies = _copies(index, entry, condition) if options.fold else 0
            photos.append(NewestPhoto(entry.item, copies))
            digests.add(entry.item.digest)
            num_vanished = num_missing
    return photos, num_vanished if len(photos) == options.num_hits else num_missing


def _copies(index: Index, entry: IndexedItem, condition: Condition) -> int:
    others = index.items.of_digest(entry.item.digest, condition)
    return sum(is_present(other.item) for other in others if other.id != entry.id)
