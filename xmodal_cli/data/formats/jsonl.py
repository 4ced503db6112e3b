"""JSON Lines: one ``{"image": "a.jpg", "captions": ["..."], "split": "train"}`` a line, paths relative to the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import only_file, read_text
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 35


def matches(path: Path) -> bool:
    """A ``.jsonl`` file, or the folder that holds it."""
    return only_file(path, "*.jsonl") is not None


def read(path: Path) -> tuple[Example, ...]:
    """The id is ``id`` where there is one, else ``image``; without ``split`` it is train."""
    file = only_file(path, "*.jsonl") or path
    lines = enumerate(read_text(file).splitlines(), 1)
    examples = tuple(_example(file, number, line) for number, line in lines if line.strip())
    if not examples:
        raise BadData(
            f"{file} is empty", 'write a line like {"image": "a.jpg", "captions": ["a dog"], "split": "train"}'
        )
    return examples


def _example(file: Path, number: int, line: str) -> Example:
    try:
        entry: dict[str, Any] = json.loads(line)
        captions = entry.get("captions", entry.get("caption", []))
        captions = [captions] if isinstance(captions, str) else captions
        path = file.parent / entry["image"]
        image_id = str(entry.get("id", entry["image"]))
        return Example(image_id, path, tuple(c.strip() for c in captions), str(entry.get("split", "train")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = 'each line is {"image": "a.jpg", "captions": ["a dog"], "split": "train"}'
        raise BadData(f"{file}, line {number} cannot be used: {type(error).__name__}: {error}", wanted) from error
