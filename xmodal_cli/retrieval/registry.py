"""The indexes of ``XMODAL_HOME``: their names and folders, and the one built last. Reads only their metadata."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.data.scan import is_under
from xmodal_cli.errors import BadData, ConfigError, MissingData, UnknownName, XmodalError
from xmodal_cli.retrieval.index import ITEMS, METADATA, VECTORS, IndexMetadata, is_index, read_metadata
from xmodal_cli.retrieval.vectors import QUANTIZED

FALLBACK = "photos"  # the name of an index if that of the folder is not usable


def names() -> list[str]:
    """The names of the indexes in ``XMODAL_HOME``, sorted."""
    return sorted(f.parent.name for f in paths.indexes_dir().glob(f"*/{METADATA}") if not f.parent.name.startswith("."))


def resolve_folder(name: str) -> Path:
    """The folder of an ``--index`` option: a path, or the name of an index in ``XMODAL_HOME``.

    Raises ConfigError for an invalid name.
    """
    path = Path(name).expanduser()
    if os.sep in name or (path / METADATA).is_file():
        return paths.absolute_path(path)
    if not name or name.startswith((".", "-")):
        raise ConfigError(f"{name!r} cannot be the name of an index", "use letters and digits, or the path of a folder")
    return paths.indexes_dir() / name


def find_index(name: str | None) -> Path:
    """The folder of an existing index; without a name, the one built last. Raises UnknownName, MissingData."""
    if name is None:
        return _find_last()
    folder = resolve_folder(name)
    if is_index(folder):
        return folder
    if os.sep not in name:
        raise UnknownName.of("index", name, names())
    raise MissingData(f"there is no index at {folder}", f"create it: xmodal index PATH --index {name}")


def check_target(folder: Path) -> None:
    """Raises BadData if ``folder`` exists and is not an index, ConfigError if its name is not printable."""
    if not str(folder).isprintable():
        raise ConfigError(f"{str(folder)!r} cannot hold an index", "choose a path of printable characters")
    if is_index(folder) or not os.path.lexists(folder):
        return
    if not folder.is_dir() or {p.name for p in folder.iterdir()} - {METADATA, ITEMS, VECTORS, QUANTIZED}:
        raise BadData(f"{folder} exists and is not an index", "choose another name or path with --index")


def choose_folder(roots: Sequence[Path]) -> Path:
    """The folder of the index for the photos under ``roots`` if no name is given.

    An index that already covers all roots, the most recently updated if there are several; else a new one, named after
    the folder of the first root.
    """
    paths_to_cover = [str(paths.absolute_path(root.expanduser())) for root in roots]
    covering = [
        (metadata.updated, folder) for folder, metadata in _indexes() if _covers(metadata.roots, paths_to_cover)
    ]
    if covering:
        return max(covering)[1]
    first = Path(paths_to_cover[0])
    return _free_name((first if first.is_dir() else first.parent).name)


def _indexes() -> list[tuple[Path, IndexMetadata]]:
    indexes = []
    for name in names():
        folder = paths.indexes_dir() / name
        with contextlib.suppress(XmodalError):  # skip damaged indexes
            indexes.append((folder, read_metadata(folder)))
    return indexes


def _covers(roots: Sequence[str], paths_to_cover: Sequence[str]) -> bool:
    return all(any(is_under(path, root) for root in roots) for path in paths_to_cover)


def _free_name(name: str) -> Path:
    """A folder in ``XMODAL_HOME`` that does not exist yet: ``NAME``, else ``NAME-2``, ``NAME-3``..."""
    stem = name if name.isprintable() and not name.startswith((".", "-")) and name else FALLBACK
    candidates = (paths.indexes_dir() / candidate for candidate in paths.numbered_names(stem))
    return next(folder for folder in candidates if not os.path.lexists(folder))


def set_default(folder: Path) -> None:
    """Make ``folder`` the default index of the next search."""
    paths.write_text(_last_file(), json.dumps({"index": str(folder)}) + "\n")


def _find_last() -> Path:
    try:
        folder = Path(json.loads(_last_file().read_bytes())["index"])
        if is_index(folder):
            return folder
    except (OSError, ValueError, KeyError, TypeError):
        pass
    existing = names()
    if len(existing) == 1:
        return paths.indexes_dir() / existing[0]
    if existing:
        raise MissingData("the index built last no longer exists", f"choose one with --index: {', '.join(existing)}")
    raise MissingData("there is no index yet", "create one from a folder of photos: xmodal index PATH")


def _last_file() -> Path:
    return paths.indexes_dir() / "last.json"
