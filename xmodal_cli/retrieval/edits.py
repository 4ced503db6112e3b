"""Changes of an index that read no photos: remove or rename one of its folders, delete or rename the index."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.data.scan import is_under, path_key
from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.paths import storage_errors
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.hints import index_command, index_name
from xmodal_cli.retrieval.index import Index, IndexMetadata, open_index, read_metadata
from xmodal_cli.retrieval.items import Item
from xmodal_cli.retrieval.journal import journal_path
from xmodal_cli.retrieval.write import Content, write_version

MovePath = Callable[[str], str | None]  # the new path of a photo, or None to remove it


def remove_root(folder: Path, root: str) -> int:
    """Remove a folder, and its photos, from an index; returns their number. Raises ConfigError, StorageError."""
    roots = _check_root(folder, root)
    if len(roots) == 1:
        raise ConfigError(
            f"{root} is the only folder of the index {index_name(folder)!r}",
            f"delete the index: {index_command('--delete', index_name(folder))}",
        )
    remaining = tuple(r for r in roots if r != root)
    before = read_metadata(folder).num_items
    return before - _rewrite(folder, remaining, lambda path: None if is_under(path, root) else path).num_items


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
    with open_index(folder) as index:
        moved = index.items.count_under(old)
    move: MovePath = lambda path: new + path[len(old) :] if is_under(path, old) else path  # noqa: E731
    _rewrite(folder, tuple(new if root == old else root for root in roots), move)
    return moved


def delete_index(folder: Path) -> None:
    """Delete an index, and no other files. Raises StorageError."""
    with atomic_folder.write_lock(folder), storage_errors(folder):
        atomic_folder.recover(folder)
        for name in sorted(registry.FILES):
            (folder / name).unlink(missing_ok=True)
        journal_path(folder).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the user put other files into it
            folder.rmdir()
    registry.forget(folder)


def rename_index(folder: Path, name: str) -> Path:
    """Give an index another name, or move it to another path; returns its folder. Raises ConfigError, StorageError."""
    target = registry.resolve_folder(name)
    if os.path.lexists(target):
        raise ConfigError(f"{target} already exists", "choose another name")
    is_default = registry.find_default() == folder
    with atomic_folder.write_lock(folder), atomic_folder.write_lock(target), storage_errors(target):
        atomic_folder.recover(folder)
        folder.rename(target)
        with contextlib.suppress(FileNotFoundError):
            journal_path(folder).rename(journal_path(target))
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
    pattern = "/" + os.path.relpath(root, outer).replace(os.sep, "/")
    raise ConfigError(
        f"{root} is inside {outer}, a folder of the index {name!r}",
        f"exclude it: {index_command('--exclude', pattern, index=name)}",
    )


def _rewrite(folder: Path, roots: tuple[str, ...], move: MovePath) -> IndexMetadata:
    """Write the index with other paths, without the photos for which ``move`` returns None."""
    with atomic_folder.write_lock(folder):
        atomic_folder.recover(folder)
        with open_index(folder) as old:
            metadata, content = _moved_content(old, move)
            metadata = replace(metadata, roots=roots)
            write_version(folder, old, metadata, content)
            return metadata


def _moved_content(old: Index, move: MovePath) -> tuple[IndexMetadata, Content]:
    indexed: list[tuple[Item, int]] = []
    for row, item in enumerate(old.items.all_items()):
        if (path := move(item.path)) is not None:
            indexed.append((replace(item, path=path), row))
    unreadable = [replace(f, path=path) for f in old.items.unreadable() if (path := move(f.path)) is not None]
    indexed.sort(key=lambda pair: path_key(pair[0].path))
    mounts = tuple(path for mount in old.metadata.mounts if (path := move(mount)) is not None)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    metadata = replace(
        old.metadata,
        build=uuid.uuid4().hex,
        num_items=len(indexed),
        num_unreadable=len(unreadable),
        updated=now,
        mounts=mounts,
    )
    return metadata, Content(indexed, unreadable, lambda rows: old.vectors.take(np.asarray(rows)))
