"""JSON Lines: ``{"image": "a.jpg", "captions": ["..."], "split": "train"}`` per line, paths relative to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.formats._common import SPLITS, find_files, parse_captions
from xmodal_cli.data.text_files import field, parse_json, read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 35
SUFFIXES = (".jsonl",)
EXPECTED = 'each line is {"image": "a.jpg", "captions": ["a dog"], "split": "train"}'


def matches(path: Path) -> bool:
    """A ``.jsonl`` file, or a folder with such files."""
    return bool(find_files(path, "*.jsonl"))


def read(path: Path) -> tuple[Example, ...]:
    """The image id is ``id`` if given, else ``image``; lines with the same id are captions of one image.

    The default of ``split`` is the file name if that is a split (``val.jsonl``), else train. Raises BadData.
    """
    files = find_files(path, "*.jsonl")
    examples: dict[str, Example] = {}
    for file in files:
        for line_number, line in enumerate(read_lines(file), 1):
            if line.strip():
                where = f"{file}, line {line_number}"
                example = _parse_line(file, where, line)
                examples[example.image_id] = _merge(examples.get(example.image_id), example, where)
    if not examples:
        raise BadData(f"{files[0]} is empty", EXPECTED)
    return tuple(examples.values())


def _parse_line(file: Path, where: str, line: str) -> Example:
    entry = parse_json(line, where)
    try:
        image: str = field(entry, "image")
        split: str = field(entry, "split") if "split" in entry else SPLITS.get(file.stem, "train")
        return Example(_image_id(entry), file.parent / image, parse_captions(entry), split)
    except ValueError as error:
        raise BadData(f"{where} {error}", EXPECTED) from error


def _image_id(entry: dict[str, Any]) -> str:
    return str(field(entry, "id" if "id" in entry else "image", str, int))


def _merge(first: Example | None, second: Example, where: str) -> Example:
    """One example with the captions of two lines with the same id. Raises BadData if they contradict each other."""
    if first is None:
        return second
    if (first.path, first.split) != (second.path, second.split):
        hint = "an id belongs to one image, and an image to one split"
        raise BadData(f"{where} gives {second.image_id} another split or image than an earlier line", hint)
    return Example(first.image_id, first.path, first.captions + second.captions, first.split)
