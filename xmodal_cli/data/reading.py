"""Reads a dataset in whatever format it comes, chosen by looking at the path. Datasets are never rewritten."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.types import Example, ImageTextDataset


def read_dataset(path: Path, format: str | None = None, name: str | None = None) -> ImageTextDataset:
    """The dataset at ``path``; ``format`` forces a reader, ``name`` is the path's own by default.

    Raises MissingData where there is nothing, BadData where nothing can be made of it, UnknownName for a format.
    """
    try:
        name = name or _own_name(path)
        path = path.resolve()  # one dataset has one source, however its path was spelt
        if not path.exists():
            raise MissingData(f"there is no dataset at {path}", "check the path, or see `xmodal data list` for names")
        chosen = catalog.canonical(format) if format else _recognise(path)
        reader = catalog.load("format", chosen)
        if not reader.matches(path):
            raise BadData(f"{path} is not in the format {chosen}", f"leave --format out, or choose: {_known()}")
        examples: tuple[Example, ...] = reader.read(path)
    except (OSError, ValueError) as error:  # a name too long, a folder that may not be read, a zero byte in a name
        reason = getattr(error, "strerror", None) or error
        raise BadData(f"{path} cannot be read: {reason}", "check the path and its permissions") from error
    _check(path, examples)
    return ImageTextDataset(name, chosen, path, examples)


def _check(path: Path, examples: Sequence[Example]) -> None:
    """Raise BadData unless ids are unique and all texts can be written down again."""
    if not examples:
        raise BadData(f"{path} holds no images", "check the files, or give another path")
    splits: dict[str, str] = {}
    for example in examples:
        if example.image_id in splits:
            where = " and ".join(dict.fromkeys((splits[example.image_id], example.split)))
            hint = "an image belongs to one split; give one file, or list it once"
            raise BadData(f"{path} names the image {example.image_id} twice, in {where}", hint)
        splits[example.image_id] = example.split
        if not _is_sound(example):
            hint = "file names cannot hold zero bytes, captions cannot hold half of a surrogate pair (\\ud83d)"
            raise BadData(f"{path} has characters that are none in the image {example.image_id!a}", hint)


def _is_sound(example: Example) -> bool:
    try:
        "".join((*example.captions, example.split)).encode()
        return b"\0" not in os.fsencode(example.path or "")
    except UnicodeEncodeError:
        return False


def _recognise(path: Path) -> str:
    for name, module in _readers():
        if module.matches(path):
            return name
    raise BadData(f"{path} is not a dataset: {_what_it_is(path)}", f"formats that are known: {_known()}")


def _readers() -> list[tuple[str, ModuleType]]:
    modules = [(name, catalog.load("format", name)) for name in catalog.names("format")]
    return sorted(modules, key=lambda pair: pair[1].PRIORITY)


def _what_it_is(path: Path) -> str:
    if path.is_file():
        return "a file of an unknown kind"
    held = [p for p in path.iterdir() if not p.name.startswith(".")]
    if not held:
        return "the folder is empty"
    kinds = sorted({p.suffix or "folders" if p.is_dir() else p.suffix or "files without ending" for p in held})
    return f"the folder holds no pictures or captions, only {', '.join(kinds[:5])}"


def _own_name(path: Path) -> str:
    return path.absolute().stem if path.is_file() else path.absolute().name


def _known() -> str:
    return ", ".join(catalog.names("format"))
