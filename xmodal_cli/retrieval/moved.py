"""Recognizes a folder of an index that was moved or renamed, by the names, sizes and contents of its files."""

from __future__ import annotations

import os
from collections.abc import Sequence

from xmodal_cli.data.mounts import mount_points
from xmodal_cli.data.scan import FoundFile, Scan, is_under
from xmodal_cli.retrieval.file_hashing import file_digest
from xmodal_cli.retrieval.items import Item, ItemStore

MIN_FRACTION = 0.5  # of the photos of a folder that must be found elsewhere
NUM_CHECKED = 8  # photos whose bytes are compared


def moved_roots(roots: Sequence[str], mounts: Sequence[str], items: ItemStore, scan: Scan) -> list[str]:
    """Those of ``roots`` that are gone and whose photos in ``items`` are found among the scanned files.

    A root is gone if it does not exist, or is an empty folder, unless its disk is not mounted; ``mounts`` are those of
    the last update. It was moved if at least half of its photos have a scanned file of the same name and size, and a
    sample of these has the same bytes.
    """
    gone = gone_roots(roots, mounts, scan)
    if not gone:
        return []
    candidates: dict[tuple[str, int], list[FoundFile]] = {}
    for file in scan.files:
        candidates.setdefault((os.path.basename(file.path), file.size), []).append(file)  # noqa: PTH119 - for speed
    return [root for root in gone if _was_moved([entry.item for entry in items.under(root)], candidates)]


def gone_roots(roots: Sequence[str], mounts: Sequence[str], scan: Scan) -> list[str]:
    """Those of ``roots`` that do not exist or are empty folders, were not scanned and are on no unmounted disk."""
    mounted = mount_points()
    unmounted = [mount for mount in mounts if mount not in mounted and not os.path.ismount(mount)]
    others = [root for root in roots if not any(is_under(root, r) or is_under(r, root) for r in scan.roots)]
    return [root for root in others if _gone(root) and not any(is_under(root, mount) for mount in unmounted)]


def _gone(root: str) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except OSError:  # a file, or a folder that cannot be read
        return False


def _was_moved(items: Sequence[Item], candidates: dict[tuple[str, int], list[FoundFile]]) -> bool:
    matches = [
        (item, found)
        for item in items
        if (found := candidates.get((os.path.basename(item.path), item.size)))  # noqa: PTH119 - for speed
    ]
    if not items or len(matches) < MIN_FRACTION * len(items):
        return False
    sample = matches[:: max(1, len(matches) // NUM_CHECKED)][:NUM_CHECKED]
    same = sum(any(_has_digest(file, item.digest) for file in found[:4]) for item, found in sample)
    return same >= MIN_FRACTION * len(sample) and same > 0


def _has_digest(file: FoundFile, digest: bytes) -> bool:
    try:
        return file_digest(file.path) == digest
    except OSError:
        return False
