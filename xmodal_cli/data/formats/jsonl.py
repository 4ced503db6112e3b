"""JSON Lines: ``{"image": "a.jpg", "captions": ["..."], "split": "train"}`` per line, paths relative to the file.

The ``metadata.jsonl`` of Hugging Face's imagefolder, with ``file_name`` and ``text``, is read too, also in the folders
of its splits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from xmodal_cli.data.caption_columns import FILE_COLUMNS, find_key
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import RowLog, find_files, parse_captions, text_rows
from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.json_starts import is_caption_lines, is_caption_list
from xmodal_cli.data.text_files import field, parse_json
from xmodal_cli.errors import BadData
from xmodal_cli.splits import split_in_name
from xmodal_cli.types import Example

PRIORITY = 35
SUFFIXES = (".jsonl", ".json", ".gz")
PATTERNS = ("*.jsonl", "*.jsonl.gz")
OTHER_NAMES = ("*.json", "*.json.gz")  # whose content is JSON Lines
METADATA = ("*/metadata.jsonl", "*/metadata.jsonl.gz")  # one per split
EXPECTED = 'each line is {"image": "a.jpg", "captions": ["a dog"], "split": "train"}'


def matches(path: Path) -> bool:
    """A ``.jsonl`` file, or a folder with such files, or with folders that have a ``metadata.jsonl``.

    Content decides: a JSON list is not such a file, and ``.json`` files can be. Reads their beginnings.
    """
    return bool(_files(path))


def read(path: Path) -> DatasetContents:
    """The image id is ``id`` if given, else ``image``; lines with the same id are captions of one image.

    The default of ``split`` is the split in the name of the file (``val.jsonl``) or of its folder, else train. Raises
    BadData.
    """
    files, log = _files(path), RowLog()
    examples: dict[str, Example] = {}
    for file in files:
        folder = file.parent.name if path.is_dir() and file.parent != path else ""
        found: dict[str, Example] = {}
        for where, example in _read_file(file, folder, log):
            found[example.image_id] = _merge(found.get(example.image_id), example, where)
        for example in _locate(file.parent, list(found.values())):
            where = f"{file}"
            examples[example.image_id] = _merge(examples.get(example.image_id), example, where)
    if not examples and not log.rows:
        raise BadData(f"{files[0]} is empty", EXPECTED)
    return log.contents(list(examples.values()), files[0], EXPECTED)


def _read_file(file: Path, folder: str, log: RowLog) -> Iterator[tuple[str, Example]]:
    """(file and line, example) of each line; ``folder`` is the folder of a split, or "". Paths are not resolved."""
    split = split_in_name(file.name.partition(".")[0]) or split_in_name(folder) or "train"
    for line_number, line in text_rows(file, log):
        where = f"{file}, line {line_number}"
        try:
            entry = parse_json(line, where)
            yield where, _parse_entry(entry, split, folder)
        except BadData as error:
            log.skip(where, error.message.removeprefix(f"{where} "))
        except ValueError as error:
            log.skip(where, str(error))


def _parse_entry(entry: Any, default_split: str, folder: str) -> Example:
    key = (find_key(entry, FILE_COLUMNS) if isinstance(entry, dict) else None) or "image"
    image: str = field(entry, key)
    split: str = field(entry, "split") if "split" in entry else default_split
    image_id = str(field(entry, "id" if "id" in entry else key, str, int))
    return Example(f"{folder}/{image_id}" if folder else image_id, Path(image), parse_captions(entry), split)


def _locate(root: Path, examples: list[Example]) -> list[Example]:
    """The examples with the paths of their files."""
    names = [(example.path.as_posix() if example.path else "", "") for example in examples]
    paths = locate_images(root, names, default="")
    return [replace(example, path=path) for example, path in zip(examples, paths, strict=True)]


def _merge(first: Example | None, second: Example, where: str) -> Example:
    """One example with the captions of two lines with the same id. Raises BadData if they contradict each other."""
    if first is None:
        return second
    if (first.path, first.split) != (second.path, second.split):
        hint = "an id belongs to one image, and an image to one split"
        raise BadData(f"{where} gives {second.image_id} another split or image than an earlier line", hint)
    return replace(first, captions=first.captions + second.captions)


def _files(path: Path) -> list[Path]:
    files = [file for file in find_files(path, *PATTERNS) if not is_caption_list(file)]
    files += [file for file in find_files(path, *OTHER_NAMES) if is_caption_lines(file)]
    return files if files or path.is_file() else find_files(path, *METADATA)
