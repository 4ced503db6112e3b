"""Changes of an index that read no photos: remove or rename one of its folders, delete or rename the index."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from xmodal_cli import atomic_folder
from xmodal_cli.data.exclusions import literal_pattern
from xmodal_cli.data.scan import is_under
from xmodal_cli.drafts import draft_folder
from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.paths import storage_errors
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.leftovers import remove_leftovers
from xmodal_cli.retrieval.merging import merge_segments
from xmodal_cli.retrieval.segments import SEGMENTS, has_other_files
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.upgrade import remove_format_1, upgrade_locked
from xmodal_cli.retrieval.writer import IndexWriter


def remove_root(folder: Path, root: str) -> int:
    """Remove a folder, and its photos, from an index; returns their number. Raises ConfigError, StorageError."""
    roots = _check_root(folder, root)
    if len(roots) == 1:
        raise ConfigError(
            f"{root} is the only folder of the index {index_name(folder)!r}",
            f"delete the index: {index_command('--delete', index_name(folder))}",
        )
    with _editing(folder) as writer:
        metadata = replace(
            writer.metadata,
            roots=tuple(r for r in roots if r != root),
            mounts=tuple(mount for mount in writer.metadata.mounts if not is_under(mount, root)),
        )
        with writer.transaction(metadata) as change:
            keys = [entry.id for entry in change.items.under(root)]
            change.delete(keys)
            change.set_unreadable([file for file in change.items.unreadable() if not is_under(file.path, root)])
        return len(keys)


def rename_root(folder: Path, old: str, new: str) -> int:
    """Replace the path of a folder in an index by its new path; returns the number of its photos.

    Raises ConfigError, MissingData if the new path does not exist, StorageError.
    """
    roots = _check_root(folder, old)
    if not os.path.lexists(new):
        raise MissingData(f"{new} does not exist", "rename the folder first; an index does not rename files")
    if any(is_under(new, root) or is_under(root, new) for root in roots if root != old):
        raise ConfigError(
            f"{new} overlaps with another folder of the index {index_name(folder)!r}",
            f"update the index instead: {index_command(new, index=index_name(folder))}",
        )
    move: Callable[[str], str] = lambda path: new + path[len(old) :] if is_under(path, old) else path  # noqa: E731
    with _editing(folder) as writer:
        metadata = replace(
            writer.metadata,
            roots=tuple(new if root == old else root for root in roots),
            mounts=tuple(map(move, writer.metadata.mounts)),
        )
        with writer.transaction(metadata) as change:
            moved = [(entry.id, entry.item.path) for entry in change.items.under(old)]
            change.delete([entry.id for entry in change.items.under(new) if not is_under(entry.item.path, old)])
            change.set_paths([(key, move(path)) for key, path in moved])
            change.set_unreadable([replace(f, path=move(f.path)) for f in change.items.unreadable()])
        return len(moved)


def delete_index(folder: Path) -> None:
    """Delete an index, and no other files. Raises StorageError."""
    with atomic_folder.write_lock(folder), storage_errors(folder):
        atomic_folder.recover(folder)
        remove_format_1(folder)
        remove_leftovers(folder)
        if not _delete_folder(folder):
            _delete_files(folder)
    registry.forget(folder)


def _delete_folder(folder: Path) -> bool:
    """Delete the whole folder, which first becomes an abandoned draft.

    False if it has other files or is in use, or if the disk is full.
    """
    if set(os.listdir(folder)) - registry.FILES or has_other_files(folder):
        return False
    try:
        with draft_folder(folder) as draft:
            folder.rename(draft / folder.name)
    except OSError:
        return False
    return True


def _delete_files(folder: Path) -> None:
    """Delete the files of the index."""
    (folder / ITEMS).unlink(missing_ok=True)  # first: what is left is not an index
    for name in sorted(registry.FILES):
        with contextlib.suppress(IsADirectoryError, PermissionError):
            (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)
    for path in (folder / SEGMENTS, folder):
        with contextlib.suppress(OSError):  # the user put other files into it
            path.rmdir()


def rename_index(folder: Path, name: str) -> Path:
    """Give an index another name, or move it to another path; returns its folder. Raises ConfigError, StorageError."""
    target = registry.resolve_folder(name)
    if os.path.lexists(target):
        raise ConfigError(f"{target} already exists", "choose another name")
    is_default = registry.find_default() == folder
    with atomic_folder.write_lock(folder), atomic_folder.write_lock(target), storage_errors(target):
        atomic_folder.recover(folder)
        if is_default:
            registry.set_default(target, renamed_from=folder)  # whether or not the process is killed before the rename
        folder.rename(target)
    if is_default:
        registry.set_default(target)
    return target


def _check_root(folder: Path, root: str) -> tuple[str, ...]:
    """The folders of the index. Raises ConfigError if ``root`` is not one of them."""
    roots = read_metadata(folder).roots
    if root in roots:
        return roots
    name = index_name(folder)
    outer = next((r for r in roots if is_under(root, r)), None)
    if outer is None:
        raise ConfigError(f"{root} is not a folder of the index {name!r}", f"its folders are: {', '.join(roots)}")
    pattern = literal_pattern(os.path.relpath(root, outer).replace(os.sep, "/"))
    raise ConfigError(
        f"{root} is inside {outer}, a folder of the index {name!r}",
        f"exclude it: {index_command('--exclude', pattern, index=name)}",
    )


@contextlib.contextmanager
def _editing(folder: Path) -> Iterator[IndexWriter]:
    """A writer to an index that has been checked, with its lock; small segments are merged at the end."""
    with atomic_folder.write_lock(folder):
        atomic_folder.recover(folder)
        upgrade_locked(folder)
        remove_leftovers(folder)
        with open_index(folder) as index:
            metadata = index.metadata
        with IndexWriter(folder, folder / ITEMS, metadata) as writer:
            yield writer
            merge_segments(writer, 0)
