"""Names of datasets: ``registry.json`` in the data folder of ``XMODAL_HOME`` has the path of each.

A path is accepted wherever a name is.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.shapes import LIST_NAME, make_shapes
from xmodal_cli.data.sources import SOURCES
from xmodal_cli.dataset_types import check_feature_source
from xmodal_cli.errors import BadData, ConfigError, MissingData, UnknownName
from xmodal_cli.file_errors import naming, parse_json_object, reason_of
from xmodal_cli.file_lock import write_lock
from xmodal_cli.paths import data_dir, expand_home, write_text
from xmodal_cli.types import FeatureSource, ImageTextDataset

SHAPES = "shapes"  # generated when first used
LOCK_SECONDS = 60.0  # another process writes the registry in milliseconds and the shapes in seconds
NAME = re.compile(r"\w[\w.+-]*")


def load_dataset(data: str, format: str | None = None) -> ImageTextDataset:
    """The dataset with a registered name or at a path. Raises UnknownName, MissingData, BadData."""
    entries = _read_entries()
    entry = entries.get(data, {})
    name = data if data in entries or data == SHAPES else None
    if format is None and "format" in entry:
        with naming(_file()):
            catalog.load("format", entry["format"])
    dataset = read_dataset(resolve(data), format or entry.get("format"), name)
    declared = entry.get("features_from")
    return replace(dataset, features_from=FeatureSource(**declared)) if declared and dataset.has_features else dataset


def resolve(data: str) -> Path:
    """The path of a dataset. A registered name takes precedence over a path; ``shapes`` is generated if missing.

    Raises UnknownName, MissingData, BadData.
    """
    entries = _read_entries()
    if data in entries:
        registered = Path(entries[data]["path"])
        if not registered.exists():
            hint = f"register its new path: xmodal data add {data} PATH"
            raise MissingData(f"the dataset {data} is no longer at {registered}", hint)
        return registered
    if data == SHAPES:
        return _generate_shapes()
    path = _existing_path(data)
    if path is not None:
        return path
    if data in SOURCES:
        hint = f"fetch it with `xmodal data get {data}`, or register a copy: `xmodal data add {data} PATH`"
        raise MissingData(f"the dataset {data} is not on this machine", hint)
    if "/" in data or os.sep in data or _is_file_name(data):
        raise MissingData(f"there is no dataset at {data}", "check the path, or see `xmodal data list` for names")
    raise UnknownName.of("dataset", data, {*entries, SHAPES, *SOURCES})


def resolve_name(data: str) -> str:
    """``data`` as it can be given anywhere: a name, or the absolute path."""
    return data if data in _read_entries() or data == SHAPES else str(resolve(data).absolute())


def add_hint(name: str) -> str:
    """How ``load_dataset(name)`` finds a dataset that is elsewhere; ``name`` may be that of any folder or file."""
    if NAME.fullmatch(name) and not _is_file_name(name):
        return f"register it: xmodal data add {name} PATH"
    return f"run this command in the folder that contains {name}"


def list_registered() -> dict[str, Path]:
    """Registered name -> path, which may no longer exist."""
    return {name: Path(entry["path"]) for name, entry in _read_entries().items()}


def find_entry(name: str) -> dict[str, Any] | None:
    """The entry of a registered name (its path, format and so on), and of ``shapes`` if it was generated.

    None for other names and for paths. Raises BadData.
    """
    if (entry := _read_entries().get(name)) is not None:
        return entry
    folder = data_dir() / SHAPES
    return {"path": str(folder)} if name == SHAPES and (folder / LIST_NAME).is_file() else None


def add(
    name: str,
    path: Path,
    format: str | None = None,
    declare: Callable[[ImageTextDataset], ImageTextDataset] | None = None,
) -> ImageTextDataset:
    """Read the dataset at ``path`` and register it as ``name``; ``declare`` sets its ``features_from``.

    Raises ConfigError, as ``read_dataset``, and as ``declare``.
    """
    if not NAME.fullmatch(name) or _is_file_name(name):
        raise ConfigError(f"{name!r} cannot be a dataset's name", "use letters, digits and dashes")
    dataset = read_dataset(_existing_path(str(path)) or path, format, name)
    dataset = declare(dataset) if declare else dataset
    entry: dict[str, Any] = {"path": str(dataset.source)} | ({"format": dataset.format} if format else {})
    entry |= {"features_from": asdict(dataset.features_from)} if dataset.features_from else {}
    with write_lock(data_dir() / ".registry.lock", f"{_file()}", wait_seconds=LOCK_SECONDS):
        entries = _read_entries()
        entries[name] = entry
        write_text(_file(), json.dumps(entries, indent=2, sort_keys=True) + "\n")
    return dataset


def _generate_shapes() -> Path:
    folder = data_dir() / SHAPES
    if not (folder / LIST_NAME).is_file():
        with write_lock(data_dir() / f".{SHAPES}.lock", f"the dataset {SHAPES}", wait_seconds=LOCK_SECONDS):
            if not (folder / LIST_NAME).is_file():  # another process has just written it
                make_shapes(folder)
    return folder


def _is_file_name(name: str) -> bool:
    """Whether ``name`` has the file suffix of a dataset format."""
    suffix = Path(name).suffix
    formats = (catalog.load("format", name) for name in catalog.names("format"))
    return bool(suffix) and any(suffix in getattr(module, "SUFFIXES", ()) for module in formats)


def _existing_path(text: str) -> Path | None:
    """``text`` as a path if it exists, else None."""
    try:
        path = expand_home(text)
        return path if text and os.path.lexists(path) else None
    except (OSError, ValueError, RuntimeError):  # a name that is too long, a NUL byte, ~USER of an unknown user
        return None


def _read_entries() -> dict[str, dict[str, Any]]:
    try:
        entries: dict[str, dict[str, Any]] = parse_json_object(_file().read_bytes())
        for name, entry in entries.items():
            if not all(isinstance(value, str) and value for value in (entry["path"], entry.get("format", "any"))):
                raise ValueError(f"the entry {name!r} has no path")
            if "features_from" in entry:
                check_feature_source(entry["features_from"], f"features_from of the entry {name!r}")
        return entries
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(
            f"{_file()} cannot be read: {reason_of(error)}", "fix or delete it, and add the datasets again"
        ) from error


def _file() -> Path:
    return data_dir() / "registry.json"
