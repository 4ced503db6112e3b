"""Damages of files for tests of their readers: other bytes, other JSON values, and the check of the error."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.errors import XmodalError

VALUES: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "x", [], {}, [[None]], {"a": 1})


@dataclass(frozen=True)
class Kind:
    """A kind of file: ``make`` writes a valid one into a folder, ``read`` reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    also_named: str = "/run was trained on other data"  # in an error, instead of the file


def changed_bytes(content: bytes) -> Iterator[bytes]:
    """Truncated content, other content, and content with a few other bytes, most of them in the first part."""
    yield from (b"", b"\0" * 100, b"null", b"[" * 100_000, b"\xff\xfe\xfd", b"PK\x03\x04" + content)
    yield from (content[:size] for size in {1, 7, 8, 9, 60, *(len(content) * part // 8 for part in range(1, 8))})
    yield from (content[:-1], content + b"x")
    for seed in range(20):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(min(len(content), 600 if seed % 3 else len(content)))] = rng.randrange(256)
        yield bytes(damaged)


def changed_values(value: Any) -> Iterator[Any]:
    """The JSON value with one of its parts replaced or deleted."""
    for path in _paths(value):
        for other in VALUES:
            changed = copy.deepcopy(value)
            if not path:
                yield other
                continue
            _parent(changed, path)[path[-1]] = other
            yield changed
        if path and isinstance(path[-1], str):
            changed = copy.deepcopy(value)
            del _parent(changed, path)[path[-1]]
            yield changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from _paths(inner, (*path, key))


def _parent(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def with_metadata(content: bytes, key: str) -> Iterator[bytes]:
    """A safetensors file with other values in the JSON of its metadata ``key``."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for changed in changed_values(json.loads(header["__metadata__"][key])):
        other = json.dumps({**header, "__metadata__": {key: json.dumps(changed)}}).encode()
        yield struct.pack("<Q", len(other)) + other + content[8 + length :]


def check(kind: Kind, file: Path) -> bool:
    """Read the file; whether it was refused. Any exception but an XmodalError that names the file is a failure."""
    try:
        kind.read(file)
    except XmodalError as error:
        named = str(file) in error.message or str(file.parent) in error.message
        assert named or kind.also_named in error.message, error.message
        assert error.hint
        return True
    return False
