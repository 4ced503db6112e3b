"""Recognizes JSON files by their beginnings, without parsing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmodal_cli.data.caption_columns import CAPTION_COLUMNS, FILE_COLUMNS, normalize_name
from xmodal_cli.data.text_files import read_start
from xmodal_cli.file_errors import parse_json_object

_COCO = ({"images", "annotations"}, {"images", "file_name"}, {"annotations", "caption"})  # keys of its objects
_LIST_OF_OBJECTS = re.compile(r"\s*\[\s*\{")
_NESTED_LIST = re.compile(r'"\s*:\s*\[\s*\{')
_CAPTION_BY_NAME = re.compile(
    r'\s*\{\s*"[^"]+\.(jpe?g|png|webp|gif|bmp|tiff?)"\s*:\s*\[?\s*"[^"]*\s[^"]*"', re.IGNORECASE
)
_KEY = re.compile(r'"((?:[^"\\]|\\.){1,60})"\s*:')


def list_keys(file: Path) -> list[str]:
    """The first keys of a JSON list of objects; empty for other files."""
    text = read_start(file)
    return _keys(text) if _LIST_OF_OBJECTS.match(text) else []


def is_caption_list(file: Path) -> bool:
    """Whether a file is a JSON list of objects with an image file and a caption."""
    return _has_captions(list_keys(file))


def is_caption_lines(file: Path) -> bool:
    """Whether a file is JSON Lines, and the first of them has an image file and a caption."""
    return _has_captions(list(_first_line(file)))


def is_json_lines(file: Path) -> bool:
    """Whether the first line of a file is a JSON object, and the next one, if there is one, begins like one."""
    return bool(_first_line(file))


def is_caption_object(file: Path) -> bool:
    """Whether a file is a JSON object with lists of images and captions, or with a caption per file name."""
    text = read_start(file)
    if not text.lstrip().startswith("{"):
        return False
    has_list = _NESTED_LIST.search(text) is not None and _has_captions(_keys(text))
    return has_list or _CAPTION_BY_NAME.match(text) is not None


def _first_line(file: Path) -> dict[str, Any]:
    """The object on the first line of JSON Lines; {} for other files."""
    first, _, rest = read_start(file).lstrip().partition("\n")
    if not first.startswith("{") or rest.lstrip()[:1] not in ("", "{"):
        return {}
    try:
        return parse_json_object(first)
    except ValueError:
        return {}


def is_karpathy(file: Path) -> bool:
    """Whether a file is a JSON object as those of Karpathy: images with sentences."""
    return {"images", "sentences", "filename"} <= _object_keys(file)


def is_coco(file: Path) -> bool:
    """Whether a file is a JSON object as those of COCO: a list of images, and one of annotations."""
    keys = _object_keys(file)
    return any(needed <= keys for needed in _COCO) and not is_karpathy(file)


def _object_keys(file: Path) -> set[str]:
    """The first keys of a JSON object, also of objects in it; empty for other files."""
    text = read_start(file)
    return set(_keys(text)) if text.lstrip().startswith("{") else set()


def _keys(text: str) -> list[str]:
    return list(dict.fromkeys(match[1] for match in _KEY.finditer(text)))


def _has_captions(keys: Sequence[str]) -> bool:
    names = {normalize_name(key) for key in keys}
    return not names.isdisjoint(FILE_COLUMNS) and not names.isdisjoint(CAPTION_COLUMNS)
