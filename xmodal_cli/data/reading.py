"""Reads a dataset in whatever format it comes, chosen by looking at the path. Datasets are never rewritten."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.types import ImageTextDataset


def read_dataset(path: Path, format: str | None = None, name: str | None = None) -> ImageTextDataset:
    """The dataset at ``path``; ``format`` forces a reader, ``name`` is the path's own by default.

    Raises MissingData where there is nothing, BadData where nothing can be made of it, UnknownName for a format.
    """
    if not path.exists():
        raise MissingData(f"there is no dataset at {path}", "check the path, or see `xmodal data list` for names")
    chosen = catalog.canonical(format) if format else _recognise(path)
    reader = catalog.load("format", chosen)
    if not reader.matches(path):
        raise BadData(f"{path} is not in the format {chosen}", f"leave --format out, or choose: {_known()}")
    examples = reader.read(path)
    return ImageTextDataset(name or _own_name(path), chosen, path.absolute(), examples)


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
