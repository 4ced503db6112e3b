"""The photos that the filters of a search select, and their vectors."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.errors import ConfigError, MissingData, Unavailable
from xmodal_cli.paths import expand_home
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval.conditions import Condition
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.index import Index
from xmodal_cli.retrieval.query import Query
from xmodal_cli.shell_commands import xmodal_command


@dataclass(frozen=True)
class PhotoSelection:
    """``ids`` (photos,) int64 are the keys of photos, ascending; ``allowed`` (rows,) bool are their vectors."""

    ids: np.ndarray
    allowed: np.ndarray

    def __contains__(self, key: int) -> bool:
        i = int(np.searchsorted(self.ids, key))
        return i < len(self.ids) and int(self.ids[i]) == key


def select_photos(index: Index, condition: Condition) -> PhotoSelection:
    """The photos of an index that a condition selects."""
    ids, segments, positions = index.items.locations(condition)
    return PhotoSelection(ids, index.vectors.mask(segments, positions))


def photo_condition(index: Index, query: Query, folder: Path, reporter: Reporter = SILENT) -> Condition | None:
    """The condition of the filters of ``query`` on the photos of the index in ``folder``; None without filters.

    Dates in photos that were not read, of an index that was upgraded, are a warning.
    Raises ConfigError for an invalid date, MissingData for a folder without photos, Unavailable without captions.
    """
    if not query.texts and not query.options.has_filters:
        return None
    from xmodal_cli.retrieval.filters import PhotoFilter, parse_date

    options = query.options
    after = None if options.after is None else parse_date(options.after, "--after")
    before = None if options.before is None else parse_date(options.before, "--before")
    folders = tuple(_resolve(name, index, folder) for name in options.folders)
    photo_filter = PhotoFilter(folders, after, before, query.texts)
    if photo_filter.uses_captions and not index.items.has_captions():
        name = index_name(folder)
        raise Unavailable(
            f"the index {name} has no captions", f"write them: {xmodal_command('caption', '--index', name)}"
        )
    if photo_filter.uses_dates and (num_unread := index.items.num_without_facts()):
        reporter.warn(
            f"the dates in {num_unread} photos of the index {index_name(folder)} were not read yet, their modification "
            f"times are compared; read them: {index_command(index=index_name(folder))}"
        )
    return photo_filter.condition()


def _resolve(name: str, index: Index, folder: Path) -> str:
    """The folder of the index that ``name`` means: a path, or one relative to a folder of the index."""
    from xmodal_cli.paths import absolute_path

    roots = index.metadata.roots
    typed = str(absolute_path(expand_home(name)))
    if os.path.lexists(typed) or index.items.count_under(typed):
        candidates = [typed]
    else:
        candidates = [os.path.normpath(os.path.join(root, name)) for root in roots]  # noqa: PTH118
    for candidate in candidates:
        if index.items.count_under(candidate):
            return candidate
    known = f"the folders of the index are {', '.join(roots)}"
    if not os.path.lexists(typed):
        raise MissingData(f"the folder {name} does not exist", known)
    raise ConfigError(f"the index {index_name(folder)} has no photo in {typed}", known)
