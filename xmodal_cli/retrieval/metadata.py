"""The facts about an index that are not about one photo: its model, folders, times and counts.

They are the rows of the table ``meta``, and ``index.json`` is a copy for people and scripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE, VERSIONS
from xmodal_cli.errors import UnknownName
from xmodal_cli.types import FeatureMeta
from xmodal_cli.version import __version__

FORMAT = 2
STORES = ("fp16", "fp32")


class NewerVersion(ValueError):
    """The index was written by a newer xmodal; the message has its version."""


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
    """``build`` is unique per commit; times are ISO 8601 in UTC.

    ``kind`` is that of large segments, ``store`` the precision of new vectors (``STORES``). ``mounts`` are the mount
    points in ``roots`` when they were listed, ``exclude`` the patterns of ``--exclude``. ``decoding`` is the version of
    decoding of the last complete update.
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
    store: str = STORES[0]
    xmodal: str = __version__

    def to_json(self) -> str:
        """The text of ``index.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    def to_rows(self) -> list[tuple[str, str]]:
        """The rows of the table ``meta``: names and values as JSON."""
        return [(key, json.dumps(value)) for key, value in asdict(self).items()]


def parse_metadata(content: Mapping[str, Any]) -> IndexMetadata:
    """The inverse of ``asdict``; also of an ``index.json`` of format 1.

    Raises NewerVersion, and ValueError, KeyError, TypeError, AttributeError and OverflowError for damaged content.
    """
    decoding, store = _text(content.get("decoding", DECODING_BEFORE)), _text(content.get("store", STORES[0]))
    if decoding not in VERSIONS or store not in STORES:
        raise NewerVersion(str(content.get("xmodal")))
    model = content["model"]
    names: dict[str, Any] = {name: _text(model[name]) for name in ("name", "source", "fingerprint", "similarity")}
    fields: dict[str, Any] = {name: _text(content[name]) for name in ("build", "kind", "created", "updated", "xmodal")}
    fields |= {name: _count(content[name]) for name in ("num_items", "num_unreadable")}
    fields |= {name: tuple(map(_text, content.get(name, ()))) for name in ("roots", "mounts", "exclude")}
    meta, embed_dim = FeatureMeta(**model["meta"]), _count(model["embed_dim"])
    model = IndexModel(embed_dim=embed_dim, meta=meta, **names)
    if embed_dim == 0 or not fields["roots"]:
        raise ValueError("it has vectors without elements, or no folders")
    return IndexMetadata(model=model, decoding=decoding, store=store, **fields)


def check_store(store: str) -> str:
    """Return ``store``. Raises UnknownName if it is not in ``STORES``."""
    if store not in STORES:
        raise UnknownName.of("precision of stored vectors", store, STORES)
    return store


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise ValueError(f"{value!r:.40} is not a number of items")
    return value
