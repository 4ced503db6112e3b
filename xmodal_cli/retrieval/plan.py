"""Compares what an index knows with what the folders hold, by path, size and time; opens no picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from xmodal_cli.data.scan import FoundFile, Scan, is_under
from xmodal_cli.retrieval.items import Item, UnreadableFile

Placed = tuple[Item, int]  # a picture, and the number of its vector


@dataclass
class UpdatePlan:
    """What an update has to do.

    ``kept`` items stay as they are, with the rows of their vectors; ``look`` are files that are new or changed;
    ``left`` are items, by path, whose file has changed or gone; ``refused`` are files known to be unreadable.
    """

    kept: list[Placed] = field(default_factory=list)
    look: list[FoundFile] = field(default_factory=list)
    left: dict[str, Item] = field(default_factory=dict)
    refused: list[UnreadableFile] = field(default_factory=list)


def make_plan(items: Iterable[Item], refused: Iterable[UnreadableFile], seen: Scan, roots: Sequence[str]) -> UpdatePlan:
    """Items outside ``roots``, or in folders that could not be looked into, are kept."""
    plan, found = UpdatePlan(), {f.path: f for f in seen.files}

    def stays(known: Item | UnreadableFile) -> bool:
        file = found.get(known.path)
        if file is None:
            inside = any(is_under(known.path, root) for root in roots)
            return not inside or any(is_under(known.path, folder) for folder in seen.unreadable_folders)
        if (file.size, file.mtime_ns) != (known.size, known.mtime_ns):
            return False
        del found[known.path]
        return True

    for row, item in enumerate(items):
        if stays(item):
            plan.kept.append((item, row))
        else:
            plan.left[item.path] = item
    plan.refused = [file for file in refused if stays(file)]
    plan.look = list(found.values())
    return plan
