"""The index folder: ``index.json`` + ``items.sqlite`` + ``index.faiss``, opened as the one unit it was written as.

The three files of a folder are never changed after it is in place; an update puts a new folder there.
Row ``i`` of the vectors is the ``i``-th picture by path. Knows no model, only its card.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from xmodal_cli.atomic_folder import aside
from xmodal_cli.errors import BadData, IncompatibleFeatures, MissingData
from xmodal_cli.retrieval.items import ItemStore
from xmodal_cli.retrieval.vectors import StoredVectors
from xmodal_cli.types import FeatureMeta
from xmodal_cli.version import __version__

FORMAT = 1
CARD, ITEMS, VECTORS = "index.json", "items.sqlite", "index.faiss"
_ATTEMPTS = 100  # how often an opener looks again while a writer keeps putting new folders in place


@dataclass(frozen=True)
class IndexModel:
    """The matcher whose vectors an index holds. ``source`` loads it again: a path, or a name."""

    name: str
    source: str
    fingerprint: str
    similarity: str
    embed_dim: int
    meta: FeatureMeta


@dataclass(frozen=True)
class IndexMetadata:
    """What ``index.json`` says. ``build`` is new with every writing; times are ISO 8601 in UTC."""

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
    """Raises MissingData where there is no index, BadData for one that is damaged or of a newer format."""
    path = folder / CARD
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content.pop("format") != FORMAT:
            raise BadData(f"{folder} was made by a newer xmodal ({content.get('xmodal')})", "upgrade xmodal")
        model = content.pop("model")
        meta = FeatureMeta(**model.pop("meta"))
        content["roots"] = tuple(content["roots"])
        return IndexMetadata(model=IndexModel(meta=meta, **model), **content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingData(f"there is no index at {folder}", "make one: xmodal index PATH") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "make the index again: xmodal index PATH --rebuild"
        raise BadData(f"{path} is damaged: {error}", hint) from error


class Index:
    """An index open for reading; it stays whole and readable even when a newer one takes its place."""

    def __init__(self, card: IndexMetadata, items: ItemStore, vectors: StoredVectors) -> None:
        self.card, self.items, self.vectors = card, items, vectors

    def __len__(self) -> int:
        return self.vectors.count

    def close(self) -> None:
        self.items.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def is_index(folder: Path) -> bool:
    """Whether an index is there, or just being replaced."""
    # looked for twice, since it may be put back between the first two looks
    return any((place / CARD).is_file() for place in (folder, aside(folder), folder))


def open_index(folder: Path) -> Index:
    """Open the files of one and the same writing. Raises MissingData, BadData."""
    for attempt in range(_ATTEMPTS):
        if not is_index(folder):
            break
        for place in (folder, aside(folder)):
            if (index := _open(place, may_vanish=place != folder)) is not None:
                return index
        time.sleep(0.002 * min(attempt, 10))
    read_metadata(folder)  # says what is the matter
    raise BadData(f"{folder} cannot be opened: it keeps changing", "wait until the indexing has finished")


def _open(folder: Path, may_vanish: bool) -> Index | None:
    """The index, or None if another was put in its place meanwhile."""
    items: ItemStore | None = None
    try:
        card = read_metadata(folder)
    except MissingData:
        return None
    try:
        items = ItemStore(folder / ITEMS)
        vectors = StoredVectors(folder / VECTORS, card.kind, (card.num_items, card.model.embed_dim))
        if _is_still(folder, card):
            return Index(card, items, vectors)
    except (BadData, FileNotFoundError) as error:
        if not may_vanish and _is_still(folder, card):
            raise error if isinstance(error, BadData) else _not_whole(folder, card) from error
    if items is not None:
        items.close()
    return None


def _is_still(folder: Path, card: IndexMetadata) -> bool:
    try:
        return read_metadata(folder).build == card.build
    except (BadData, MissingData):
        return False


def _not_whole(folder: Path, card: IndexMetadata) -> BadData:
    hint = f"make the index again: xmodal index {' '.join(card.roots)} --rebuild"
    return BadData(f"{folder} is not whole: one of its files is gone", hint)


def check_version(made_by: IndexModel, fingerprint: str, folder: Path) -> None:
    """Raises IncompatibleFeatures when the model's file is no longer the one that made the index."""
    if fingerprint != made_by.fingerprint:
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by another version of {made_by.name} "
            f"({made_by.fingerprint[:8]}; the file {made_by.source} is now {fingerprint[:8]})",
            f"make the index again: xmodal index {' '.join(_roots(folder))} --index {folder.name} --rebuild",
        )


def _roots(folder: Path) -> tuple[str, ...]:
    return read_metadata(folder).roots if is_index(folder) else ("PATH",)
