"""Compare an index with the files in its folders, by path, size and modification time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xmodal_cli.data.scan import FoundFile, Scan, containing, is_under
from xmodal_cli.retrieval.items import IndexedItem, ItemStore, UnreadableFile


@dataclass
class UpdatePlan:
    """The work of an update; of photos that have not changed there is only their number.

    ``to_embed`` are new or changed files. ``stale`` are the photos, by path, whose file was changed or deleted.
    ``unreadable`` files are unchanged since they could not be read. ``kept`` counts the unchanged photos per absent
    path.
    """

    num_unchanged: int = 0
    to_embed: list[FoundFile] = field(default_factory=list)
    stale: dict[str, IndexedItem] = field(default_factory=dict)
    unreadable: list[UnreadableFile] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)


def make_plan(
    items: ItemStore | None, scan: Scan, roots: Sequence[str], absent: Mapping[str, str], is_complete: bool = True
) -> UpdatePlan:
    """Compare an index with a scan. Photos outside ``roots``, or in one of the ``absent`` paths, count as unchanged.

    If ``roots`` are not ``is_complete``, a part of the folders of the index, only the rows of their photos are read:
    of ten million photos, all rows take half a minute.
    """
    if items is None:
        return UpdatePlan(to_embed=list(scan.files))
    plan, new_files = UpdatePlan(), {f.path: f for f in scan.files}

    def is_unchanged(path: str, size: int, mtime_ns: int, kept: Counter[str]) -> bool:
        file = new_files.get(path)
        if file is None:
            if not any(is_under(path, root) for root in roots):
                return True
            if (parent := containing(path, absent)) is not None:
                kept[parent] += 1
            return parent is not None
        if file.mtime_ns != mtime_ns or file.size != size:
            return False
        del new_files[path]
        return True

    stale = list[int]()
    if not is_complete:
        plan.num_unchanged = items.count() - items.count_under(*roots)
    for key, path, size, mtime_ns in items.states(None if is_complete else roots):
        file = new_files.get(path)
        if file is not None and file.mtime_ns == mtime_ns and file.size == size:  # nearly all of a large index
            del new_files[path]
            plan.num_unchanged += 1
        elif not is_unchanged(path, size, mtime_ns, plan.kept):
            stale.append(key)
        else:
            plan.num_unchanged += 1
    plan.stale = {entry.item.path: entry for entry in items.of_ids(stale)}
    plan.unreadable = [f for f in items.unreadable() if is_unchanged(f.path, f.size, f.mtime_ns, Counter())]
    plan.to_embed = list(new_files.values())
    return plan
