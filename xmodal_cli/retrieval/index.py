"""The index folder: ``index.json``, ``items.sqlite`` and ``index.faiss`` of one version, opened together.

The files are never modified; an update replaces the folder. Row ``i`` of the vectors belongs to the ``i``-th photo in
the order of paths.
"""

from __future__ import annotations

import errno
import json
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from xmodal_cli.atomic_folder import backup_path
from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE, VERSIONS
from xmodal_cli.errors import BadData, IncompatibleFeatures, MissingData
from xmodal_cli.retrieval.hints import index_command, index_name, rebuild_hint
from xmodal_cli.retrieval.items import ItemStore
from xmodal_cli.retrieval.vectors import StoredVectors
from xmodal_cli.types import FeatureMeta
from xmodal_cli.version import __version__

FORMAT = 1
METADATA, ITEMS, VECTORS = "index.json", "items.sqlite", "index.faiss"
_ATTEMPTS = 100  # of opening an index whose folder is being replaced


@dataclass(frozen=True)
class IndexModel:
    """The matcher that computed the vectors of an index. ``source`` is the path or name that loads it."""

    name: str
    source: str
    fingerprint: str
    similarity: str
    embed_dim: int
    meta: FeatureMeta


@dataclass(frozen=True)
class IndexMetadata:
    """The content of ``index.json``. ``build`` is unique per version; times are ISO 8601 in UTC.

    ``mounts`` are the mount points in ``roots`` when they were listed, ``exclude`` the patterns of ``--exclude``.
    ``decoding`` is the version in which photos were decoded; items whose photos could not be compared with an earlier
    version have their own.
    """

    build: str
    model: IndexModel
    kind: str
    roots: tuple[str, ...]
    num_items: int
    num_unreadable: int
    created: str
    updated: str
    mounts: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    decoding: str = DECODING
    xmodal: str = __version__

    def to_json(self) -> str:
        """The text of ``index.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def read_metadata(folder: Path) -> IndexMetadata:
    """Read ``index.json``. Raises MissingData without an index, BadData if it is damaged or of a newer format."""
    path = folder / METADATA
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        command = index_command("PATH", index=index_name(folder))
        raise MissingData(f"there is no index at {folder}", f"create it: {command}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, str(error)) from error
    try:
        return _to_metadata(content, folder)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise _damaged(folder, missing) from error


def _to_metadata(content: dict[str, Any], folder: Path) -> IndexMetadata:
    """Raises ValueError, KeyError, TypeError, AttributeError and OverflowError for content of another shape."""
    decoding = _text(content.get("decoding", DECODING_BEFORE))
    if int(content["format"]) != FORMAT or decoding not in VERSIONS:
        raise BadData(f"{folder} was written by a newer xmodal ({content.get('xmodal')})", "upgrade xmodal")
    model = content["model"]
    names: dict[str, Any] = {name: _text(model[name]) for name in ("name", "source", "fingerprint", "similarity")}
    fields: dict[str, Any] = {name: _text(content[name]) for name in ("build", "kind", "created", "updated", "xmodal")}
    fields |= {name: _count(content[name]) for name in ("num_items", "num_unreadable")}
    fields |= {name: tuple(map(_text, content.get(name, ()))) for name in ("roots", "mounts", "exclude")}
    meta, embed_dim = FeatureMeta(**model["meta"]), _count(model["embed_dim"])
    metadata = IndexMetadata(model=IndexModel(embed_dim=embed_dim, meta=meta, **names), decoding=decoding, **fields)
    if metadata.model.embed_dim == 0 or not metadata.roots:
        raise ValueError("it has vectors without elements, or no folders")
    return metadata


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise ValueError(f"{value!r:.40} is not a number of items")
    return value


def _damaged(folder: Path, reason: str) -> BadData:
    return BadData(f"{folder / METADATA} is damaged: {reason}", rebuild_hint(folder, "PATH"))


def unreadable(path: Path, error: OSError) -> BadData:
    """The error for a file or folder of an index that cannot be read."""
    return BadData(
        f"{path} cannot be read: {(error.strerror or str(error)).lower()}", "check its permissions and its disk"
    )


class Index:
    """An index opened for reading. It stays readable after its folder is replaced."""

    def __init__(self, metadata: IndexMetadata, items: ItemStore, vectors: StoredVectors) -> None:
        self.metadata, self.items, self.vectors = metadata, items, vectors

    def __len__(self) -> int:
        return self.vectors.count

    def close(self) -> None:
        self.items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def is_index(folder: Path) -> bool:
    """Whether ``folder`` is an index, also while it is being replaced."""
    # folder is checked twice: it may be restored after the first check
    return any(_has_metadata(path) for path in (folder, backup_path(folder), folder))


def _has_metadata(folder: Path) -> bool:
    """Whether there is an ``index.json``; also if that cannot be found out, so that reading it raises the reason."""
    try:
        return stat.S_ISREG((folder / METADATA).stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return error.errno not in (errno.ELOOP, errno.ENAMETOOLONG)


def open_index(folder: Path) -> Index:
    """Open the three files of one version. Raises MissingData, BadData."""
    for attempt in range(_ATTEMPTS):
        if not is_index(folder):
            break
        for path in (folder, backup_path(folder)):
            if (index := _open(path, may_vanish=path != folder)) is not None:
                return index
        time.sleep(0.002 * min(attempt, 10))
    read_metadata(folder)  # raises if the index is missing or damaged
    raise BadData(f"{folder} cannot be opened: it keeps changing", "wait until indexing has finished")


def _open(folder: Path, may_vanish: bool) -> Index | None:
    """The index, or None if its folder was replaced in the meantime."""
    items: ItemStore | None = None
    try:
        metadata = read_metadata(folder)
    except MissingData:
        return None
    try:
        for name in (ITEMS, VECTORS):
            _check_readable(folder / name)
        items = ItemStore(folder / ITEMS, metadata.num_items, metadata.decoding)
        vectors = StoredVectors(folder / VECTORS, metadata.kind, (metadata.num_items, metadata.model.embed_dim))
        if _is_unchanged(folder, metadata):
            return Index(metadata, items, vectors)
    except (BadData, FileNotFoundError) as error:
        if not may_vanish and _is_unchanged(folder, metadata):
            raise error if isinstance(error, BadData) else _incomplete(folder) from error
    if items is not None:
        items.close()
    return None


def _is_unchanged(folder: Path, metadata: IndexMetadata) -> bool:
    try:
        return read_metadata(folder).build == metadata.build
    except (BadData, MissingData):
        return False


def _check_readable(path: Path) -> None:
    """Raises FileNotFoundError, and BadData for what is not a file, such as a named pipe, or may not be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadData(f"{path} is not a file", rebuild_hint(path.parent))
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error


def _incomplete(folder: Path) -> BadData:
    missing = " and ".join(name for name in (ITEMS, VECTORS) if not (folder / name).exists())
    return BadData(f"{folder} is incomplete: {missing or 'a file'} is missing", rebuild_hint(folder))


def check_fingerprint(model: IndexModel, fingerprint: str, folder: Path) -> None:
    """Raises IncompatibleFeatures if the model file has changed since it computed the index."""
    if fingerprint != model.fingerprint:
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by another version of {model.name} "
            f"({model.fingerprint[:8]}; the file {model.source} is now {fingerprint[:8]})",
            rebuild_hint(folder, *(() if is_index(folder) else ("PATH",))),
        )
