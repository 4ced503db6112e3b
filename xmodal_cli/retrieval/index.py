"""The index folder: ``index.json``, ``items.sqlite`` and ``index.faiss`` of one version, opened together.

The files are never modified; an update replaces the folder. Row ``i`` of the vectors belongs to the ``i``-th photo in
the order of paths.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from xmodal_cli.atomic_folder import backup_path
from xmodal_cli.errors import BadData, IncompatibleFeatures, MissingData
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
    """The content of ``index.json``. ``build`` is unique per version; times are ISO 8601 in UTC."""

    build: str
    model: IndexModel
    kind: str
    roots: tuple[str, ...]
    num_items: int
    num_unreadable: int
    created: str
    updated: str
    xmodal: str = __version__

    def to_json(self) -> str:
        """The text of ``index.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def read_metadata(folder: Path) -> IndexMetadata:
    """Read ``index.json``. Raises MissingData without an index, BadData if it is damaged or of a newer format."""
    path = folder / METADATA
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content.pop("format") != FORMAT:
            raise BadData(f"{folder} was written by a newer xmodal ({content.get('xmodal')})", "upgrade xmodal")
        model = content.pop("model")
        meta = FeatureMeta(**model.pop("meta"))
        content["roots"] = tuple(content["roots"])
        return IndexMetadata(model=IndexModel(meta=meta, **model), **content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingData(f"there is no index at {folder}", "create it: xmodal index PATH") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "rebuild the index: xmodal index PATH --rebuild"
        raise BadData(f"{path} is damaged: {error}", hint) from error


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
    return any((path / METADATA).is_file() for path in (folder, backup_path(folder), folder))


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
        items = ItemStore(folder / ITEMS)
        vectors = StoredVectors(folder / VECTORS, metadata.kind, (metadata.num_items, metadata.model.embed_dim))
        if _is_unchanged(folder, metadata):
            return Index(metadata, items, vectors)
    except (BadData, FileNotFoundError) as error:
        if not may_vanish and _is_unchanged(folder, metadata):
            raise error if isinstance(error, BadData) else _incomplete(folder, metadata) from error
    if items is not None:
        items.close()
    return None


def _is_unchanged(folder: Path, metadata: IndexMetadata) -> bool:
    try:
        return read_metadata(folder).build == metadata.build
    except (BadData, MissingData):
        return False


def _incomplete(folder: Path, metadata: IndexMetadata) -> BadData:
    hint = f"rebuild the index: xmodal index {' '.join(metadata.roots)} --rebuild"
    return BadData(f"{folder} is incomplete: one of its files is missing", hint)


def check_fingerprint(model: IndexModel, fingerprint: str, folder: Path) -> None:
    """Raises IncompatibleFeatures if the model file has changed since it computed the index."""
    if fingerprint != model.fingerprint:
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by another version of {model.name} "
            f"({model.fingerprint[:8]}; the file {model.source} is now {fingerprint[:8]})",
            f"rebuild the index: xmodal index {' '.join(_roots(folder))} --index {folder.name} --rebuild",
        )


def _roots(folder: Path) -> tuple[str, ...]:
    return read_metadata(folder).roots if is_index(folder) else ("PATH",)
