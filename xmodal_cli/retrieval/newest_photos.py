"""The photos of a query that has filters only: the newest first."""

from __future__ import annotations

from dataclasses import dataclass

from xmodal_cli.retrieval.index import Index
from xmodal_cli.retrieval.items import Item
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.selection import PhotoSelection
from xmodal_cli.retrieval.top_photos import exists


@dataclass
class NewestPhoto:
    """A hit without a score. ``duplicates`` is the number of further files with the same bytes."""

    item: Item
    duplicates: int = 0


def newest_photos(index: Index, options: SearchOptions, selection: PhotoSelection) -> tuple[list[NewestPhoto], int]:
    """The newest selected photos that exist, at most ``num_hits``, and the number of newer ones that do not exist."""
    photos: list[NewestPhoto] = []
    of_digest: dict[bytes, NewestPhoto] = {}
    num_missing = num_vanished = 0
    for entry in index.items.newest(selection.ids.tolist()):
        first = of_digest.get(entry.item.digest) if options.fold else None
        if first is None and len(photos) == options.num_hits:
            if not options.fold:
                break
            continue  # a copy of a hit may follow
        if not exists(entry.item.path):
            num_missing += 1
        elif first is not None:
            first.duplicates += 1
        else:
            photos.append(NewestPhoto(entry.item))
            of_digest[entry.item.digest] = photos[-1]
            num_vanished = num_missing
    return photos, num_vanished
