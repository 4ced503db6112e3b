"""Datasets by name: ``registry.json`` at home says where they are. A path works wherever a name does."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from xmodal_cli import catalog
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.shapes import LIST_NAME, make_shapes
from xmodal_cli.data.sources import SOURCES
from xmodal_cli.errors import BadData, ConfigError, MissingData, UnknownName
from xmodal_cli.paths import data_dir, write_text
from xmodal_cli.types import ImageTextDataset

SHAPES = "shapes"  # generated at first use
NAME = re.compile(r"\w[\w.+-]*")


def load_dataset(what: str, format: str | None = None) -> ImageTextDataset:
    """The dataset that a registered name or a path means. Raises UnknownName, MissingData, BadData."""
    entries = _entries()
    entry = entries.get(what, {})
    name = what if what in entries or what == SHAPES else None
    return read_dataset(resolve(what), format or entry.get("format"), name)


def resolve(what: str) -> Path:
    """Where a dataset is. A registered name goes before a path; ``shapes`` is made if it is not there yet."""
    entries = _entries()
    if what in entries:
        found = Path(entries[what]["path"])
        if not found.exists():
            raise MissingData(f"the dataset {what} is no longer at {found}", f"say where: xmodal data add {what} PATH")
        return found
    if what == SHAPES:
        return _shapes()
    path = _as_path(what)
    if path is not None:
        return path
    if what in SOURCES:
        hint = f"fetch it with `xmodal data get {what}`, or say where it is: `xmodal data add {what} PATH`"
        raise MissingData(f"the dataset {what} is not on this machine", hint)
    if "/" in what or os.sep in what or _is_file_name(what):
        raise MissingData(f"there is no dataset at {what}", "check the path, or see `xmodal data list` for names")
    raise UnknownName.of("dataset", what, {*entries, SHAPES, *SOURCES})


def known() -> dict[str, Path]:
    """Registered names and where they are, whether present or not."""
    return {name: Path(entry["path"]) for name, entry in _entries().items()}


def add(name: str, path: Path, format: str | None = None) -> ImageTextDataset:
    """Register ``path`` under ``name`` after reading it whole. Raises what reading raises, and ConfigError."""
    if not NAME.fullmatch(name) or _is_file_name(name):
        raise ConfigError(f"{name!r} cannot be a dataset's name", "use letters, digits and dashes")
    dataset = read_dataset(_as_path(str(path)) or path, format, name)
    entry = {"path": str(dataset.source)} | ({"format": dataset.format} if format else {})
    entries = _entries()
    entries[name] = entry
    write_text(_file(), json.dumps(entries, indent=2, sort_keys=True) + "\n")
    return dataset


def _shapes() -> Path:
    folder = data_dir() / SHAPES
    if not (folder / LIST_NAME).is_file():
        make_shapes(folder)
    return folder


def _is_file_name(what: str) -> bool:
    """Whether ``what`` ends as files of some format do."""
    suffix = Path(what).suffix
    formats = (catalog.load("format", name) for name in catalog.names("format"))
    return bool(suffix) and any(suffix in getattr(module, "SUFFIXES", ()) for module in formats)


def _as_path(what: str) -> Path | None:
    """The path that ``what`` is, if something is there."""
    try:
        path = Path(what).expanduser()
        return path if what and path.exists() else None
    except (OSError, RuntimeError):  # a name that is too long, the home of nobody
        return None


def _entries() -> dict[str, dict[str, str]]:
    try:
        entries: dict[str, dict[str, str]] = json.loads(_file().read_text(encoding="utf-8"))
        for name, entry in entries.items():
            if not all(isinstance(text, str) and text for text in (entry["path"], entry.get("format", "any"))):
                raise ValueError(f"the entry {name!r} has no path")
        return entries
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadData(f"{_file()} cannot be read: {error}", "mend or delete it, and add the datasets again") from error


def _file() -> Path:
    return data_dir() / "registry.json"
