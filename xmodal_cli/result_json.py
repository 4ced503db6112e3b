"""The JSON of results: ``dataclasses.asdict`` with three rules, which apply to every ``--json``.

1. A path is a string, a tuple a list.
2. A field with the metadata ``OPTIONAL`` is omitted if it is None or empty.
3. The entries of a field with the metadata ``INLINE`` replace the field.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

OPTIONAL = {"json": "optional"}
INLINE = {"json": "inline"}


def to_json(result: object) -> Any:
    """A result, or a list of results, as ``json.dumps`` accepts it; other values are unchanged."""
    if is_dataclass(result):
        return _record(result)
    if isinstance(result, Mapping):
        return {str(key): to_json(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [to_json(item) for item in result]
    return os.fspath(result) if isinstance(result, os.PathLike) else result


def _record(result: Any) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for field in fields(result):
        value, rule = getattr(result, field.name), field.metadata.get("json")
        if rule == "inline":
            record |= to_json(value)
        elif rule != "optional" or not _is_empty(value):
            record[field.name] = to_json(value)
    return record


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, tuple | list | Mapping) and not value)
