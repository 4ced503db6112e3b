"""The list of indexes with their folders, for ``xmodal index --list``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.errors import XmodalError
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.metadata import RECALL, Calibration


@dataclass(frozen=True)
class ListedRoot:
    """A folder of an index, and the number of its photos; ``state`` is as in ``root_state``."""

    path: str
    photos: int
    state: str


@dataclass(frozen=True)
class ListedIndex:
    """An index. ``error`` is why it cannot be read, else empty; ``is_default``: a search without --index uses it.

    ``recall`` is the requested recall of approximate search, ``calibration`` the measured one, None if
    searches are exact.
    """

    index: str
    folder: str
    is_default: bool
    photos: int = 0
    model: str = ""
    updated: str = ""
    roots: tuple[ListedRoot, ...] = ()
    exclude: tuple[str, ...] = ()
    recall: float = RECALL
    calibration: Calibration | None = None
    error: str = ""


def list_indexes(name: str | None = None) -> list[ListedIndex]:
    """The index ``name``, or all in ``XMODAL_HOME`` and the default one. Raises UnknownName, MissingData, BadData."""
    default = registry.find_default()
    if name is not None:
        return [_list(registry.find_index(name), default)]
    home = paths.absolute_path(paths.indexes_dir())
    folders = [home / known for known in registry.names()]
    if default is not None and default not in folders:
        folders.append(default)
    return [_list(folder, default) for folder in folders]


def _list(folder: Path, default: Path | None) -> ListedIndex:
    try:
        with open_index(folder) as index:
            metadata = index.metadata
            roots = [ListedRoot(root, index.items.count_under(root), root_state(root)) for root in metadata.roots]
    except XmodalError as error:
        return ListedIndex(folder.name, str(folder), folder == default, error=error.message)
    return ListedIndex(
        folder.name,
        str(folder),
        folder == default,
        metadata.num_items,
        metadata.model.name,
        metadata.updated,
        tuple(roots),
        metadata.exclude,
        metadata.recall,
        metadata.calibration,
    )


def root_state(root: str) -> str:
    """``ok``, ``empty``, ``missing`` or ``unreadable``; a photo file that is a root is ``ok``."""
    try:
        with os.scandir(root) as entries:
            return "ok" if next(entries, None) is not None else "empty"
    except NotADirectoryError:
        return "ok"
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
