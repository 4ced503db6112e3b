"""What a search does with the files of its photos: copy them to a folder, or open one in a viewer."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import shutil
import subprocess
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.errors import ConfigError, StorageError
from xmodal_cli.paths import atomic_path, expand_home, storage_errors
from xmodal_cli.reporter import Reporter
from xmodal_cli.viewer import open_photo

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult


def check_copy_folder(folder: Path) -> Path:
    """Return ``folder``, expanded. Raises StorageError if photos cannot be copied to it; it need not exist."""
    expanded = expand_home(folder)
    existing = next(path for path in (expanded, *expanded.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise StorageError(f"{existing} is not a folder", "give another folder to --copy-to")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(f"{existing} cannot be written", "check its permissions, or give another folder")
    return expanded


def copy_photos(result: SearchResult, folder: Path, reporter: Reporter) -> int:
    """Copy the photos of the hits to ``folder``, with their modification times; returns their number.

    No file is overwritten: a photo with the name of another file becomes ``NAME (2).jpg``, and one that the
    folder has, byte for byte, is not copied again. A photo that cannot be read is skipped with a warning. Raises
    StorageError.
    """
    num_copied = 0
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for hit in result.hits:
        source = Path(hit.path)
        try:
            with open(source, "rb"):
                pass
        except OSError as error:
            reporter.warn(f"{source} was not copied: {(error.strerror or str(error)).lower()}")
            continue
        with storage_errors(folder):
            target = _free_name(source, folder)
            if target is None:
                continue
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
                with contextlib.suppress(OSError):  # not all file systems have times and permissions
                    shutil.copystat(source, temporary)
            num_copied += 1
    return num_copied


def _free_name(source: Path, folder: Path) -> Path | None:
    """The path of a copy of ``source`` in ``folder``; None if the folder has it already."""
    for number in count(1):
        name = source.name if number == 1 else f"{source.stem} ({number}){source.suffix}"
        target = folder / name
        if not os.path.lexists(target):
            return target
        if target.is_file() and filecmp.cmp(source, target, shallow=False):
            return None
    raise OSError(errno.EEXIST, "no free name", str(folder))


def open_hit(result: SearchResult, rank: int, option: str = "-k") -> subprocess.Popen[bytes] | None:
    """Open the photo of a hit with the system's viewer; ``option`` sets the number of results.

    Returns the viewer's process as ``open_photo``. Raises ConfigError, MissingData, Unavailable.
    """
    from xmodal_cli.retrieval.hints import update_command

    if rank > (num := len(result.hits)):
        hint = f"{option} {rank} shows more results" if result.items >= rank else f"give a number from 1 to {num}"
        raise ConfigError(f"there are only {num} results, not {rank}", hint)
    hint = f"update the index: {update_command(Path(result.folder))}"
    return open_photo(Path(result.hits[rank - 1].path), hint)
