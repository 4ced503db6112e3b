"""Recognizes JSON files by their beginnings, without parsing them."""

from __future__ import annotations

import re
from pathlib import Path

from xmodal_cli.data.caption_columns import CAPTION_COLUMNS, FILE_COLUMNS, normalize_name
from xmodal_cli.data.text_files import read_start

_LIST_OF_OBJECTS = re.compile(r"\s*\[\s*\{")
_KEY = re.compile(r'"((?:[^"\\]|\\.){1,60})"\s*:')


def list_keys(file: Path) -> list[str]:
    """The first keys of a JSON list of objects; empty for other files."""
    text = read_start(file)
    if not _LIST_OF_OBJECTS.match(text):
        return []
    return list(dict.fromkeys(match[1] for match in _KEY.finditer(text)))


def is_caption_list(file: Path) -> bool:
    """Whether a file is a JSON list of objects with an image file and a caption."""
    names = {normalize_name(key) for key in list_keys(file)}
    return not names.isdisjoint(FILE_COLUMNS) and not names.isdisjoint(CAPTION_COLUMNS)
