"""Compare an index with the files in its folders, by path, size and modification time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xmodal_cli.data.scan import FoundFile, Scan, containing, is_under
from xmodal_cli.retrieval.items import Item, UnreadableFile

IndexedItem = tuple[Item, int]  # a photo and the row of its vector


@dataclass
class UpdatePlan:
    """The work of an update.

    ``unchanged`` items keep their vectors, whose rows are those of the old index. ``to_embed`` are new or changed
    files. ``stale`` are the items, by path and with their rows, whose file was changed or deleted. ``unreadable`` files
    are unchanged since they could not be read. ``kept`` counts the unchanged items per absent path.
    """

    unchanged: list[IndexedItem] = field(default_factory=list)
    to_embed: list[FoundFile] = field(default_factory=list)
    stale: dict[str, IndexedItem] = field(default_factory=dict)
    unreadable: list[UnreadableFile] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)


def make_plan(
    items: Iterable[Item],
    unreadable: Iterable[UnreadableFile],
    scan: Scan,
    roots: Sequence[str],
    absent: Mapping[str, str],
) -> UpdatePlan:
    """Compare an index with a scan. Items outside ``roots``, or in one of the ``absent`` paths, count as unchanged."""
    plan, new_files = UpdatePlan(), {f.path: f for f in scan.files}

    def is_unchanged(known: Item | UnreadableFile, kept: Counter[str]) -> bool:
        file = new_files.get(known.path)
        if file is None:
            if not any(is_under(known.path, root) for root in roots):
                return True
            if (parent := containing(known.path, absent)) is not None:
                kept[parent] += 1
            return parent is not None
        if (file.size, file.mtime_ns) != (known.size, known.mtime_ns):
            return False
        del new_files[known.path]
        return True

    for row, item in enumerate(items):
        if is_unchanged(item, plan.kept):
            plan.unchanged.append((item, row))
        else:
            plan.stale[item.path] = item, row
    plan.unreadable = [file for file in unreadable if is_unchanged(file, Counter())]
    plan.to_embed = list(new_files.values())
    return plan
