"""The facts about an index that are not about one photo: its model, folders, times and counts.

They are the rows of the table ``meta``, and ``index.json`` is a copy for people and scripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xmodal_cli import json_checksum
from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE, VERSIONS
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.types import FeatureMeta
from xmodal_cli.version import __version__

FORMAT = 2
STORES = ("fp16", "fp32")
RECALL = 0.99  # the default
CAPTIONER = "captioner"  # in the table ``meta``: which model and settings have written the captions
UNMEASURED = 0.1  # the fraction of cells that is searched before the recall is measured


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
class Calibration:
    """The measured recall of approximate search, relative to exact search (``calibration.py``).

    A search scores the photos of the ``fraction`` of cells that are nearest to it. ``recall_at_10`` is the fraction of
    the 10 best photos that it finds, for ``num_queries`` ``queries``: ``sentences`` or ``photos``. ``num_vectors`` is
    the size of the index, and ``target`` the recall that was requested.
    """

    fraction: float
    recall_at_10: float
    queries: str
    num_queries: int
    num_vectors: int
    target: float


@dataclass(frozen=True)
class IndexMetadata:
    """``build`` is unique per commit; times are ISO 8601 in UTC.

    ``recall`` is that which an approximate search should have, ``calibration`` how it reaches it, None before it was
    measured. ``store`` is the precision of new vectors (``STORES``). ``vectors`` is the folder of vectors that were
    imported, or empty. ``mounts`` are the mount
    points in ``roots`` when they were listed, ``exclude`` the patterns of ``--exclude``. ``decoding`` is the version of
    decoding of the last complete update.
    """

    build: str
    model: IndexModel
    roots: tuple[str, ...]
    num_items: int
    num_unreadable: int
    created: str
    updated: str
    mounts: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    decoding: str = DECODING
    store: str = STORES[0]
    recall: float = RECALL
    calibration: Calibration | None = None
    vectors: str = ""
    xmodal: str = __version__

    @property
    def fraction(self) -> float:
        """The fraction of the cells that a search scores."""
        if self.recall == 1.0:
            return 1.0
        return self.calibration.fraction if self.calibration else UNMEASURED

    def to_json(self) -> str:
        """The text of ``index.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"

    def to_rows(self) -> list[tuple[str, str]]:
        """The rows of the table ``meta`` except CAPTIONER: names and values as JSON, and their checksum."""
        return [(key, json.dumps(value)) for key, value in json_checksum.with_checksum(asdict(self)).items()]


def parse_metadata(content: Mapping[str, Any]) -> IndexMetadata:
    """The inverse of ``asdict``; also of an ``index.json`` of format 1.

    Raises NewerVersion, and ValueError, KeyError, TypeError, AttributeError and OverflowError for damaged content.
    """
    decoding, store = _text(content.get("decoding", DECODING_BEFORE)), _text(content.get("store", STORES[0]))
    if decoding not in VERSIONS or store not in STORES:
        raise NewerVersion(str(content.get("xmodal")))
    model = content["model"]
    names: dict[str, Any] = {name: _text(model[name]) for name in ("name", "source", "fingerprint", "similarity")}
    fields: dict[str, Any] = {name: _text(content[name]) for name in ("build", "created", "updated", "xmodal")}
    fields |= {name: _count(content[name]) for name in ("num_items", "num_unreadable")}
    fields |= {name: tuple(map(_text, content.get(name, ()))) for name in ("roots", "mounts", "exclude")}
    meta, embed_dim = FeatureMeta(**model["meta"]), _count(model["embed_dim"])
    model = IndexModel(embed_dim=embed_dim, meta=meta, **names)
    vectors = _text(content.get("vectors", ""))
    if embed_dim == 0 or not (fields["roots"] or vectors):
        raise ValueError("it has vectors without elements, or no folders")
    recall, calibration = _fraction(content.get("recall", RECALL)), content.get("calibration")
    return IndexMetadata(
        model=model,
        decoding=decoding,
        store=store,
        recall=recall,
        calibration=None if calibration is None else _parse_calibration(calibration),
        vectors=vectors,
        **fields,
    )


def _parse_calibration(content: Mapping[str, Any]) -> Calibration:
    fraction, recall, target = (_fraction(content[name]) for name in ("fraction", "recall_at_10", "target"))
    num_queries, num_vectors = _count(content["num_queries"]), _count(content["num_vectors"])
    return Calibration(fraction, recall, _text(content["queries"]), num_queries, num_vectors, target)


def check_recall(recall: float) -> float:
    """Return ``recall``. Raises ConfigError unless it is above 0 and at most 1."""
    if not 0.0 < recall <= 1.0:
        raise ConfigError(f"--recall must be above 0 and at most 1, not {recall:g}", "the default is 0.99; 1 is exact")
    return recall


def check_store(store: str) -> str:
    """Return ``store``. Raises UnknownName if it is not in ``STORES``."""
    if store not in STORES:
        raise UnknownName.of("precision of stored vectors", store, STORES)
    return store


def _fraction(value: object) -> float:
    if not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{value!r:.40} is not between 0 and 1")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is not text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise ValueError(f"{value!r:.40} is not a number of items")
    return value
