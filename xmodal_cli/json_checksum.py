"""A JSON object with its checksum, so that a changed byte is detected when it is read. Imports nothing heavy.

Files of older versions have no checksum and are accepted as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xmodal_cli.file_errors import parse_json_object

KEY = "sha256"


def to_text(value: Mapping[str, Any], indent: int | None = None) -> str:
    """The JSON of an object, with its checksum as the last entry."""
    return json.dumps(with_checksum(value), indent=indent)


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it will be read, with strings as keys and lists for tuples, and its checksum as the last entry."""
    entries = parse_json_object(json.dumps(value))
    return {**entries, KEY: _checksum_of(entries)}


def parse(content: str | bytes) -> dict[str, Any]:
    """The object that ``to_text`` wrote, without the checksum. Raises ValueError for invalid JSON or a wrong one."""
    return verify(parse_json_object(content))


def verify(value: Mapping[str, Any]) -> dict[str, Any]:
    """The entries without the checksum. Raises ValueError if it is wrong."""
    entries = {name: entry for name, entry in value.items() if name != KEY}
    if KEY in value and value[KEY] != _checksum_of(entries):
        raise ValueError("its checksum is wrong")
    return entries


def _checksum_of(value: Mapping[str, Any]) -> str:
    """The sha256 in hex of parsed JSON, independent of the order of keys."""
    import hashlib  # takes a few milliseconds

    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
