"""Helpers of the dataset formats: find files, collect rows that cannot be used, assign splits."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodal_cli.data.caption_columns import CAPTION_COLUMNS, caption_values, find_key
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.exclusions import IGNORE_FILE, Exclusions
from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.data.text_files import is_text, read_rows
from xmodal_cli.errors import BadData
from xmodal_cli.file_identity import is_file, is_folder
from xmodal_cli.paths import absolute_path
from xmodal_cli.splits import SPLITS
from xmodal_cli.types import Example, SkippedRow

SPLIT_LISTS = {"train": "train", "dev": "val", "val": "val", "test": "test"}  # word in a split list's name -> split


@dataclass
class RowLog:
    """Collects the rows that cannot be used: one bad row costs one row."""

    rows: list[SkippedRow] = field(default_factory=list)

    def skip(self, where: str, reason: str) -> None:
        """Record a row. ``where`` is the file, and the line or entry."""
        self.rows.append(SkippedRow(where, reason))

    def contents(self, examples: Sequence[Example], file: Path, expected: str) -> DatasetContents:
        """The contents of ``file``. Raises BadData if no row can be used; ``expected`` is the hint."""
        if examples:
            return DatasetContents(tuple(examples), tuple(self.rows))
        if not self.rows:
            raise BadData(f"{file} contains no captions", "fetch it again")
        first = self.rows[0]
        others = f" ({len(self.rows):,} rows cannot be used)" if len(self.rows) > 1 else ""
        raise BadData(f"{first.where} {first.reason}{others}", expected)


def parse_captions(entry: Any) -> tuple[str, ...]:
    """The captions of an entry: a list, one string, or null for none. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("is not a JSON object")
    key = find_key(entry, CAPTION_COLUMNS)
    return () if key is None else caption_values(entry[key], key)


def text_rows(file: Path, log: RowLog) -> Iterator[tuple[int, str]]:
    """(line number, line) of the lines that are not empty; lines that are not text are skipped. Raises BadData."""
    for line_number, line in enumerate(read_rows(file), 1):
        if not is_text(line):
            log.skip(f"{file}, line {line_number}", "is not UTF-8 text")
        elif line.strip():
            yield line_number, line


def first_file(path: Path, pattern: str) -> Path | None:
    """The first of ``find_files``, or None."""
    return next(iter(find_files(path, pattern)), None)


def find_files(path: Path, *patterns: str) -> list[Path]:
    """``path`` if it is a file that matches a pattern; for a folder the files in it that match, sorted by name.

    Patterns match names in any case; ``*/NAME`` is a file in a folder of ``path``.
    """
    if path.is_file():
        return [path] if any(_matches(path.name, pattern.rpartition("/")[2]) for pattern in patterns) else []
    deep = [pattern.removeprefix("*/") for pattern in patterns if pattern.startswith("*/")]
    found = _files_like(path, [pattern for pattern in patterns if not pattern.startswith("*/")])
    for folder in _folders(path) if deep else ():
        found += _files_like(folder, deep)
    return sorted(found)


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _files_like(folder: Path, patterns: Sequence[str]) -> list[Path]:
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and is_file(entry)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # ``list_images`` reports what it cannot read
        return []
    return [folder / name for name in names if any(_matches(name, pattern) for pattern in patterns)]


def _folders(path: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(path) if is_folder(entry)]


def list_images(root: Path) -> Iterator[Path]:
    """All image files below ``root``, sorted within each folder, without those that ``exclusions`` names.

    Camera RAW files and vector graphics are listed too: they are reported as unreadable, with a reason. Raises BadData
    if a folder cannot be read.
    """
    rules = {os.fspath(root): Exclusions.below(str(absolute_path(root)))}
    for folder, inner, files in os.walk(root, onerror=_raise_unreadable):
        here = rules.pop(folder)
        here = here.enter(str(absolute_path(Path(folder)))) if IGNORE_FILE in files else here
        base = absolute_path(Path(folder))
        inner[:] = sorted(name for name in inner if not here.reason(name, str(base / name), is_folder=True))
        rules.update((os.path.join(folder, name), here) for name in inner)  # noqa: PTH118 - the keys of os.walk
        images = (name for name in sorted(files) if is_listed_name(name))
        yield from (Path(folder) / n for n in images if not here.reason(n, str(base / n), is_folder=False))


def _raise_unreadable(error: OSError) -> None:
    reason = (error.strerror or str(error)).lower()
    hint = f"check its permissions, or name it in a file {IGNORE_FILE} to leave it out"
    raise BadData(f"{error.filename} cannot be read: {reason}", hint) from error


def build_examples(file: Path, captions: Mapping[str, Sequence[str]]) -> list[Example]:
    """Examples from ``captions``, image file name -> captions, that were read from ``file``.

    Splits are those of the official split lists in the same folder; an image in none of them is ``unused``. Without
    lists they are ``split_by_hash``.
    """
    lists = _read_split_lists(file.parent)
    splits = [lists.get(name, "unused") if lists else split_by_hash(name) for name in captions]
    paths = locate_images(file.parent, list(zip(captions, splits, strict=True)))
    return [
        Example(name, path, tuple(texts), split)
        for (name, texts), path, split in zip(captions.items(), paths, splits, strict=True)
    ]


def _read_split_lists(folder: Path) -> dict[str, str]:
    """Image file name -> split, from ``*trainImages.txt``, ``*devImages.txt`` and ``*testImages.txt`` in a folder."""
    splits: dict[str, str] = {}
    for prefix, split in SPLIT_LISTS.items():
        for file in sorted(folder.glob(f"*{prefix}Images.txt")):
            splits |= dict.fromkeys(filter(None, map(str.strip, read_rows(file))), split)
    return splits


def split_by_hash(name: str) -> str:
    """The split of an image in a dataset without splits: 3/4 train, 1/8 val, 1/8 test, by the hash of its name."""
    eighth = hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0] % 8
    return {0: "val", 1: "test"}.get(eighth, "train")


__all__ = [
    "SPLITS",
    "RowLog",
    "build_examples",
    "find_files",
    "first_file",
    "list_images",
    "parse_captions",
    "split_by_hash",
    "text_rows",
]
