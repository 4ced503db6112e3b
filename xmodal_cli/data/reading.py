"""Reads a dataset; its format is detected from its path and file names. Datasets are never modified."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.tar import COMPRESSED
from xmodal_cli.data.unread_captions import unread_captions
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_identity import is_absent, reason_not_regular
from xmodal_cli.splits import canonical_split
from xmodal_cli.types import Example, ImageTextDataset, SkippedRow

WITHOUT_CAPTIONS = "folder"  # the format of a folder of images


def read_dataset(path: Path, format: str | None = None, name: str | None = None) -> ImageTextDataset:
    """The dataset at ``path``; ``format`` None detects the format, ``name`` is the file or folder name by default.

    Raises MissingData if ``path`` does not exist, BadData if it cannot be read, UnknownName for an unknown format.
    """
    try:
        name = name or _default_name(path)
        _check_exists(path)
        path = path.resolve()  # the same source for all spellings of the path
        format = catalog.canonical(format) if format else _detect_format(path)
        reader = catalog.load("format", format)
        if not reader.matches(path):
            raise BadData(f"{path} is not in the format {format}", f"omit --format, or choose: {_format_names()}")
        contents: DatasetContents | tuple[Example, ...] = reader.read(path)
    except (OSError, ValueError) as error:  # a name too long, a folder that is not readable, a NUL byte in a name
        reason = getattr(error, "strerror", None) or error
        raise BadData(f"{path} cannot be read: {reason}", "check the path and its permissions") from error
    if not isinstance(contents, DatasetContents):
        contents = DatasetContents(contents)
    contents = _drop_invalid(path, contents)
    examples = tuple(_with_canonical_split(example) for example in contents.examples)
    _check(path, examples)
    return ImageTextDataset(name, format, path, examples, contents.skipped_rows, contents.notes)


def _check_exists(path: Path) -> None:
    """Raise MissingData, or BadData for a named pipe, socket or device, and a link that leads to itself."""
    if path.is_dir():
        return
    if is_absent(path):
        raise MissingData(f"there is no dataset at {path}", "check the path, or see `xmodal data list` for names")
    if problem := reason_not_regular(path):
        raise BadData(f"{path} {problem}", "give a dataset's name, folder or file")


def _with_canonical_split(example: Example) -> Example:
    split = canonical_split(example.split)
    return example if split == example.split else replace(example, split=split)


def _drop_invalid(path: Path, contents: DatasetContents) -> DatasetContents:
    """Without the images whose strings cannot be encoded. Raises BadData if none is left."""
    valid = tuple(example for example in contents.examples if _is_encodable(example))
    skipped = tuple(
        SkippedRow(f"{path}, image {example.image_id!a}", "has invalid characters")
        for example in contents.examples
        if not _is_encodable(example)
    )
    if skipped and not valid:
        hint = "file names cannot have NUL bytes, captions cannot have unpaired surrogates (\\ud83d)"
        raise BadData(f"{path} has invalid characters in the image {contents.examples[0].image_id!a}", hint)
    return replace(contents, examples=valid, skipped_rows=contents.skipped_rows + skipped)


def _check(path: Path, examples: Sequence[Example]) -> None:
    """Raise BadData unless there are images and their ids are unique."""
    if not examples:
        raise BadData(f"{path} contains no images", "check the files, or give another path")
    splits: dict[str, str] = {}
    for example in examples:
        if example.image_id in splits:
            where = " and ".join(dict.fromkeys((splits[example.image_id], example.split)))
            hint = "an image belongs to one split; give one file, or list the image once"
            raise BadData(f"{path} names the image {example.image_id} twice, in {where}", hint)
        splits[example.image_id] = example.split


def _is_encodable(example: Example) -> bool:
    try:
        "".join((*example.captions, example.split)).encode()
        return b"\0" not in os.fsencode(example.path or "")
    except UnicodeEncodeError:
        return False


def _detect_format(path: Path) -> str:
    for name, module in _formats_by_priority():
        if module.matches(path):
            if name == WITHOUT_CAPTIONS and (problem := unread_captions(path)) is not None:
                raise problem
            return name
    if (problem := unread_captions(path)) is not None:
        raise problem
    if path.is_dir() and any(entry.name.lower().endswith(COMPRESSED) for entry in path.iterdir()):
        hint = "decompress them, for example with gunzip: images are read from .tar files in any order"
        raise BadData(f"{path} is not a dataset: its archives are compressed", hint)
    raise BadData(f"{path} is not a dataset: {_describe_path(path)}", f"supported formats: {_format_names()}")


def _formats_by_priority() -> list[tuple[str, ModuleType]]:
    modules = [(name, catalog.load("format", name)) for name in catalog.names("format")]
    return sorted(modules, key=lambda pair: pair[1].PRIORITY)


def _describe_path(path: Path) -> str:
    if path.is_file():
        return "the file is not in a supported format"
    entries = [p for p in path.iterdir() if not p.name.startswith(".")]
    if not entries:
        return "the folder is empty"
    kinds = sorted({p.suffix or "folders" if p.is_dir() else p.suffix or "files without suffix" for p in entries})
    return f"the folder contains no images or captions, only {', '.join(kinds[:5])}"


def _default_name(path: Path) -> str:
    return path.absolute().stem if path.is_file() else path.absolute().name


def _format_names() -> str:
    return ", ".join(catalog.names("format"))
