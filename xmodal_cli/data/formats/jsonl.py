"""JSON Lines: one ``{"image": "a.jpg", "captions": ["..."], "split": "train"}`` a line, paths relative to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import SPLITS, all_files, caption_list
from xmodal_cli.data.text_files import field, parse_json, read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 35
SUFFIXES = (".jsonl",)
WANTED = 'each line is {"image": "a.jpg", "captions": ["a dog"], "split": "train"}'


def matches(path: Path) -> bool:
    """A ``.jsonl`` file, or the folder that holds some."""
    return bool(all_files(path, "*.jsonl"))


def read(path: Path) -> tuple[Example, ...]:
    """The id is ``id`` where there is one, else ``image``; lines of the same id are captions of one image.

    Without ``split`` it is the file's name where that is a split (``val.jsonl``), else train.
    """
    files = all_files(path, "*.jsonl")
    found: dict[str, Example] = {}
    for file in files:
        for number, line in enumerate(read_lines(file), 1):
            if line.strip():
                example = _example(file, number, line)
                found[example.image_id] = _joined(found.get(example.image_id), example, f"{file}, line {number}")
    if not found:
        raise BadData(f"{files[0]} is empty", f"write lines: {WANTED}")
    return tuple(found.values())


def _example(file: Path, number: int, line: str) -> Example:
    entry = parse_json(line, f"{file}, line {number}")
    try:
        image: str = field(entry, "image")
        split: str = field(entry, "split") if "split" in entry else SPLITS.get(file.stem, "train")
        return Example(_image_id(entry), file.parent / image, caption_list(entry), split)
    except ValueError as error:
        raise BadData(f"{file}, line {number} {error}", WANTED) from error


def _image_id(entry: dict[str, Any]) -> str:
    return str(field(entry, "id" if "id" in entry else "image", str, int))


def _joined(first: Example | None, more: Example, where: str) -> Example:
    """One example of two lines about the same image."""
    if first is None:
        return more
    if (first.path, first.split) != (more.path, more.split):
        hint = "an id belongs to one image, and an image to one split"
        raise BadData(f"{where} gives {more.image_id} another split or image than an earlier line", hint)
    return Example(first.image_id, first.path, first.captions + more.captions, first.split)
