"""The indexes of ``XMODAL_HOME``: their names and folders, and the one built last. Reads only their metadata."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli import paths
from xmodal_cli.errors import BadData, ConfigError, MissingData, UnknownName, XmodalError
from xmodal_cli.paths import expand_home
from xmodal_cli.retrieval.database import ITEMS, REBUILD, SIDE_FILES, unreadable
from xmodal_cli.retrieval.hints import index_command
from xmodal_cli.retrieval.index import is_index, open_index
from xmodal_cli.retrieval.metadata import IndexMetadata
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import METADATA, read_metadata

if TYPE_CHECKING:
    from xmodal_cli.data.scan import Scan

FILES = {METADATA, SEGMENTS, *(name + suffix for name in (ITEMS, REBUILD) for suffix in ("", *SIDE_FILES))}
TEMPORARY = re.compile(rf"\.({'|'.join(map(re.escape, (ITEMS, REBUILD, METADATA)))})\.[0-9a-f]{{8}}\.tmp")
FALLBACK = "photos"  # the name of an index if that of the folder is not usable
MAX_NAME = 200  # bytes; the files next to an index have longer names
_LAST = ".last.json"  # no index has a name with a dot first
_OLD_LAST = "last.json"  # its name in xmodal 0.1, which could also be that of an index


def names() -> list[str]:
    """The names of the indexes in ``XMODAL_HOME``, sorted. Raises BadData if the folder cannot be read."""
    folder = paths.indexes_dir()
    try:
        entries = [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(folder, error) from error
    return sorted(name for name in entries if not name.startswith(".") and is_index(folder / name))


def resolve_folder(name: str) -> Path:
    """The folder of an ``--index`` option: a path, or the name of an index in ``XMODAL_HOME``.

    Raises ConfigError for an invalid name.
    """
    path = expand_home(name)
    if os.sep in name or (name and not name.startswith((".", "-")) and is_index(path)):
        return paths.absolute_path(path)
    if not name or name.startswith((".", "-")) or len(os.fsencode(name)) > MAX_NAME:
        raise ConfigError(
            f"{name!r} cannot be the name of an index",
            "use a short name of letters and digits, or the path of a folder",
        )
    return paths.absolute_path(paths.indexes_dir() / name)


def find_index(name: str | None) -> Path:
    """The folder of an existing index; without a name, the one built last. Raises UnknownName, MissingData."""
    if name is None:
        return _find_last()
    folder = resolve_folder(name)
    if is_index(folder):
        return folder
    if os.sep not in name:
        raise UnknownName.of("index", name, names())
    raise MissingData(f"there is no index at {folder}", f"create it: {index_command('PATH', index=name)}")


def check_target(folder: Path) -> None:
    """Raises BadData if ``folder`` exists and is not an index, ConfigError if its name is not printable."""
    if not str(folder).isprintable():
        raise ConfigError(f"{str(folder)!r} cannot hold an index", "choose a path of printable characters")
    if is_index(folder) or not os.path.lexists(folder):
        return
    try:
        names = {p.name for p in folder.iterdir()}
        others = {name for name in names - FILES if not TEMPORARY.fullmatch(name)}  # a killed update leaves both
    except NotADirectoryError:
        others = {folder.name}
    except OSError as error:
        raise unreadable(folder, error) from error
    if others:
        raise BadData(f"{folder} exists and is not an index", "choose another name or path with --index")


def find_covering(roots: Sequence[str]) -> Path | None:
    """The index that covers all of ``roots``, the most recently updated if there are several, else None."""
    covering = [(metadata.updated, folder) for folder, metadata in indexes() if _covers(metadata.roots, roots)]
    return max(covering)[1] if covering else None


def find_moved(scan: Scan) -> Path | None:
    """The index of a folder that was moved or renamed to one of the scanned ones, else None."""
    from xmodal_cli.retrieval.moved import gone_roots, moved_roots  # a search does without it

    found = []
    for folder, metadata in indexes():
        if gone_roots(metadata.roots, metadata.mounts, scan):
            with contextlib.suppress(XmodalError), open_index(folder) as index:
                if moved_roots(metadata.roots, metadata.mounts, index.items, scan):
                    found.append((metadata.updated, folder))
    return max(found)[1] if found else None


def new_folder(roots: Sequence[str]) -> Path:
    """A folder for a new index, named after the folder of the first root."""
    first = Path(roots[0])
    return _free_name((first if first.is_dir() else first.parent).name)


def indexes() -> list[tuple[Path, IndexMetadata]]:
    """The indexes in ``XMODAL_HOME`` that can be read, with their metadata."""
    found = []
    for name in names():
        folder = paths.absolute_path(paths.indexes_dir() / name)
        with contextlib.suppress(XmodalError):  # skip damaged indexes
            found.append((folder, read_metadata(folder)))
    return found


def _covers(roots: Sequence[str], paths_to_cover: Sequence[str]) -> bool:
    from xmodal_cli.data.scan import is_under  # a search does without it

    return all(any(is_under(path, root) for root in roots) for path in paths_to_cover)


def _free_name(name: str) -> Path:
    """A folder in ``XMODAL_HOME`` that does not exist yet: ``NAME``, else ``NAME-2``, ``NAME-3``..."""
    stem = name if name.isprintable() and not name.startswith((".", "-")) and name else FALLBACK
    while len(os.fsencode(stem)) > MAX_NAME // 2:
        stem = stem[:-1]
    candidates = (paths.absolute_path(paths.indexes_dir() / candidate) for candidate in paths.numbered_names(stem))
    return next(folder for folder in candidates if not os.path.lexists(folder))


def set_default(folder: Path, renamed_from: Path | None = None) -> None:
    """Make ``folder`` the default index of the next search; ``renamed_from`` as long as the index is still there."""
    record = {"index": str(folder)} | ({"renamed_from": str(renamed_from)} if renamed_from is not None else {})
    paths.write_text(paths.indexes_dir() / _LAST, json.dumps(record) + "\n")
    with contextlib.suppress(OSError):
        (paths.indexes_dir() / _OLD_LAST).unlink()  # fails if it is the folder of an index


def forget(folder: Path) -> None:
    """Unset the default index if it is ``folder``."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        file = paths.indexes_dir() / _LAST
        if Path(json.loads(file.read_bytes())["index"]) == folder:
            file.unlink()


def find_with_root(root: str) -> list[Path]:
    """The indexes that have ``root`` as one of their folders."""
    return [folder for folder, metadata in indexes() if root in metadata.roots]


def find_default() -> Path | None:
    """The index that was built or updated last; None if it does not exist any more."""
    folder = paths.indexes_dir()
    for file in (folder / _LAST, folder / _OLD_LAST):
        try:
            record = json.loads(file.read_bytes())
            candidates = [Path(record[key]) for key in ("index", "renamed_from") if key == "index" or key in record]
        except PermissionError as error:
            raise unreadable(file, error) from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        return next(filter(is_index, candidates), None)
    return None


def _find_last() -> Path:
    if (folder := find_default()) is not None:
        return folder
    existing = names()
    if len(existing) == 1:
        return paths.absolute_path(paths.indexes_dir() / existing[0])
    if existing:
        hint = f"choose one with --index: {', '.join(map(shlex.quote, existing))}"
        raise MissingData("the index built last no longer exists", hint)
    raise MissingData("there is no index yet", "create one from a folder of photos: xmodal index PATH")
