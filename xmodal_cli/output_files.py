"""Checks of the files and folders that a command writes at its end, made before it loads or computes anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from xmodal_cli.errors import StorageError
from xmodal_cli.paths import check_not_special, draft_file, new_folders


def check_output_file(file: Path, option: str, is_own: Callable[[Path], bool]) -> None:
    """Raise StorageError if ``file`` cannot be written, or exists and is not one that the option writes.

    ``is_own`` recognizes a file that the option wrote; an empty file is replaced too. Nothing is left on disk.
    """
    hint = f"choose another name for {option}"
    if file.is_dir():
        raise StorageError(f"{file} is a folder", hint)
    check_not_special(file)
    if os.path.lexists(file) and not (_is_empty(file) or is_own(file)):  # it may be a photo or a model
        raise StorageError(f"{file} already exists and is not a file of {option}", hint)
    check_writable(file)


def check_output_folder(folder: Path) -> None:
    """Raise StorageError if files cannot be written to ``folder``, which need not exist. Nothing is left on disk."""
    check_writable(folder / "file")


def check_writable(file: Path) -> None:
    """Raise StorageError if ``file`` cannot be created in its folder, which need not exist. Nothing is left on disk."""
    with new_folders(file.parent), draft_file(file):
        pass


def _is_empty(file: Path) -> bool:
    try:
        return file.is_file() and file.stat().st_size == 0
    except OSError:
        return False
