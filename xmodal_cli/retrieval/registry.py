"""Where indexes stand and what they are called: names, folders, the one built last. Reads only their cards."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.data.scan import is_under
from xmodal_cli.errors import BadData, ConfigError, MissingData, UnknownName, XmodalError
from xmodal_cli.retrieval.index import CARD, ITEMS, VECTORS, IndexMetadata, is_index, read_metadata
from xmodal_cli.retrieval.vectors import COARSE

FALLBACK = "photos"


def names() -> list[str]:
    """The indexes in the home folder, by name."""
    return sorted(f.parent.name for f in paths.indexes_dir().glob(f"*/{CARD}") if not f.parent.name.startswith("."))


def folder_of(name: str) -> Path:
    """The folder that ``--index`` means: a path where it looks like one, else a name in the home folder.

    Raises ConfigError for what can be neither.
    """
    path = Path(name).expanduser()
    if os.sep in name or (path / CARD).is_file():
        return paths.absolute_path(path)
    if not name or name.startswith((".", "-")):
        raise ConfigError(f"{name!r} cannot be the name of an index", "use letters and digits, or the path of a folder")
    return paths.indexes_dir() / name


def existing(name: str | None) -> Path:
    """The folder of an index that is there; without a name the one built last. Raises UnknownName, MissingData."""
    if name is None:
        return _last()
    folder = folder_of(name)
    if is_index(folder):
        return folder
    if os.sep not in name:
        raise UnknownName.of("index", name, names())
    raise MissingData(f"there is no index at {folder}", f"make one: xmodal index PATH --index {name}")


def check_target(folder: Path) -> None:
    """Raises BadData if an index in ``folder`` would replace something else, ConfigError for an unusable name."""
    if not str(folder).isprintable():
        raise ConfigError(f"{str(folder)!r} cannot hold an index", "choose a place whose name is plain text")
    if is_index(folder) or not os.path.lexists(folder):
        return
    if not folder.is_dir() or {p.name for p in folder.iterdir()} - {CARD, ITEMS, VECTORS, COARSE}:
        raise BadData(f"{folder} exists and is not an index; it is left alone", "give --index another name or place")


def choose(roots: Sequence[Path]) -> Path:
    """The folder for pictures under ``roots`` when no name was given.

    It is the index that already covers them all, the youngest if there are several; else a new one, called
    after the first root's folder.
    """
    wanted = [str(paths.absolute_path(root.expanduser())) for root in roots]
    covering = [(card.updated, folder) for folder, card in _cards() if _covers(card.roots, wanted)]
    if covering:
        return max(covering)[1]
    first = Path(wanted[0])
    return _free_name((first if first.is_dir() else first.parent).name)


def _cards() -> list[tuple[Path, IndexMetadata]]:
    found = []
    for name in names():
        folder = paths.indexes_dir() / name
        with contextlib.suppress(XmodalError):  # a damaged one is not chosen by itself
            found.append((folder, read_metadata(folder)))
    return found


def _covers(roots: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(any(is_under(path, root) for root in roots) for path in wanted)


def _free_name(name: str) -> Path:
    """A folder in the home that is not taken: ``photos``, else ``photos-2``, ``photos-3``..."""
    stem = name if name.isprintable() and not name.startswith((".", "-")) and name else FALLBACK
    numbered = (paths.indexes_dir() / free for free in paths.numbered_names(stem))
    return next(folder for folder in numbered if not os.path.lexists(folder))


def remember(folder: Path) -> None:
    """Make ``folder`` the default of the next search."""
    paths.write_text(_last_file(), json.dumps({"index": str(folder)}) + "\n")


def _last() -> Path:
    try:
        folder = Path(json.loads(_last_file().read_bytes())["index"])
        if is_index(folder):
            return folder
    except (OSError, ValueError, KeyError, TypeError):
        pass
    known = names()
    if len(known) == 1:
        return paths.indexes_dir() / known[0]
    if known:
        raise MissingData("the index built last is gone", f"say which one with --index: {', '.join(known)}")
    raise MissingData("there is no index yet", "make one from a folder of photos: xmodal index PATH")


def _last_file() -> Path:
    return paths.indexes_dir() / "last.json"
