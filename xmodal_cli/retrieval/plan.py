"""Compare an index with the files in its folders, by path, size and modification time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from xmodal_cli.data.scan import FoundFile, Scan, is_under
from xmodal_cli.retrieval.items import Item, UnreadableFile

IndexedItem = tuple[Item, int]  # a photo and the row of its vector


@dataclass
class UpdatePlan:
    """The work of an update.

    ``unchanged`` items keep their vectors, whose rows are those of the old index. ``to_embed`` are new or changed
    files. ``stale`` are the items, by path, whose file was changed or deleted. ``unreadable`` files are unchanged since
    they could not be read.
    """

    unchanged: list[IndexedItem] = field(default_factory=list)
    to_embed: list[FoundFile] = field(default_factory=list)
    stale: dict[str, Item] = field(default_factory=dict)
    unreadable: list[UnreadableFile] = field(default_factory=list)


def make_plan(
    items: Iterable[Item], unreadable: Iterable[UnreadableFile], scan: Scan, roots: Sequence[str]
) -> UpdatePlan:
    """Compare an index with a scan. Items outside ``roots``, or in unreadable folders, count as unchanged."""
    plan, new_files = UpdatePlan(), {f.path: f for f in scan.files}

    def is_unchanged(known: Item | UnreadableFile) -> bool:
        file = new_files.get(known.path)
        if file is None:
            inside = any(is_under(known.path, root) for root in roots)
            return not inside or any(is_under(known.path, folder) for folder in scan.unreadable_folders)
        if (file.size, file.mtime_ns) != (known.size, known.mtime_ns):
            return False
        del new_files[known.path]
        return True

    for row, item in enumerate(items):
        if is_unchanged(item):
            plan.unchanged.append((item, row))
        else:
            plan.stale[item.path] = item
    plan.unreadable = [file for file in unreadable if is_unchanged(file)]
    plan.to_embed = list(new_files.values())
    return plan
