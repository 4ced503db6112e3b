"""Which index a command updates, which folders it reads, and which patterns it excludes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.scan import Scan, scan_roots
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.paths import absolute_path, expand_home
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.metadata import IndexMetadata
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.shell_commands import xmodal_command


@dataclass(frozen=True)
class Target:
    """The folder of an index, the files that it is to have, and the patterns that it excludes, old and new."""

    folder: Path
    photos: Scan
    exclude: tuple[str, ...]


def find_target(roots: Sequence[Path], name: str | None, exclude: Sequence[str] = ()) -> Target:
    """The index ``name``, or the one that covers ``roots``, or that of a folder moved to ``roots``, or a new one.

    Without ``roots`` the folders of the index are listed. Raises ConfigError, UnknownName, MissingData, BadData.
    """
    if not roots:
        return _existing(name, exclude)
    given = [absolute_path(expand_home(root)) for root in roots]
    words = [str(root) for root in given]
    folder = registry.find_covering(words) if name is None else registry.resolve_folder(name)
    if folder is None:
        photos = scan_roots(given, exclude)
        folder = registry.find_moved(photos) or registry.new_folder(words)
    old = _try_read(folder)
    patterns = _merge(old.exclude if old else (), exclude)
    return Target(folder, scan_roots(given, patterns, old.roots if old else ()), patterns)


def _existing(name: str | None, exclude: Sequence[str]) -> Target:
    if name is None:
        raise ConfigError(
            "no photos to index were given", "give a folder, xmodal index PATH, or an index to update, --index INDEX"
        )
    folder = registry.find_index(name)
    name = index_name(folder)
    old = read_metadata(folder)
    patterns = _merge(old.exclude, exclude)
    if not old.roots:
        raise ConfigError(
            f"the index {folder.name!r} has no folders of photos, only the vectors of {old.vectors}",
            f"import the vectors again: {xmodal_command('vectors', 'import', 'DIR', '--index', name, '--rebuild')}; or "
            f"add photos: {index_command('PATH', index=name)}",
        )
    return Target(folder, scan_roots([Path(root) for root in old.roots], patterns, old.roots), patterns)


def _merge(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """All patterns; one that is given again moves to the end, since the last matching pattern decides."""
    return (*(pattern for pattern in old if pattern not in new), *dict.fromkeys(new))


def _try_read(folder: Path) -> IndexMetadata | None:
    """The metadata of an index; None if there is none, or if it is damaged, which the update reports."""
    try:
        return read_metadata(folder)
    except (MissingData, BadData):
        return None
