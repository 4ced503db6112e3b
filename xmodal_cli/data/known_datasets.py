"""The names that ``--data`` accepts: registered datasets, ``shapes``, and datasets that can be downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data import registry
from xmodal_cli.data.sources import SOURCES


@dataclass(frozen=True)
class KnownDataset:
    """A name that ``--data`` accepts. ``state`` is ``present``, ``missing``, ``built in`` or ``to fetch``."""

    name: str
    state: str
    path: Path | None
    about: str


def list_datasets() -> list[KnownDataset]:
    """Every name, sorted."""
    registered = registry.list_registered()
    known = [
        KnownDataset(name, "present" if path.exists() else "missing", path, "") for name, path in registered.items()
    ]
    if registry.SHAPES not in registered:
        about = "generated images of colored shapes, created at first use"
        known.append(KnownDataset(registry.SHAPES, "built in", None, about))
    known += [
        KnownDataset(name, "to fetch", None, source.title) for name, source in SOURCES.items() if name not in registered
    ]
    return sorted(known, key=lambda dataset: dataset.name)
