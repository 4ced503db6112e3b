"""Names under which tables and JSON entries have an image, its captions and its split, most specific first."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

FILE_COLUMNS = (
    *("image", "image_name", "image_file", "image_filename", "image_path", "img", "img_name", "img_path", "img_file"),
    *("file_name", "filename", "file", "file_path", "filepath", "path", "photo", "image_file_name"),
)
ID_COLUMNS = ("image_id", "img_id", "imageid", "imgid", "id", "key")  # of images, if there are no file names
CAPTION_COLUMNS = (
    *("captions", "caption", "caption_text", "comment", "comments", "raw", "sentence", "sentences"),
    *("text", "texts", "description", "title"),
)
SPLIT_COLUMNS = ("split", "set", "subset", "partition")
NUMBERED_CAPTION = re.compile(r"(caption|comment|sentence|text|description)_?\d+")
EXPECTED = (
    "a table needs a column image, file_name, path or image_id, and one of caption, comment, raw, sentence or text"
)


def normalize_name(name: str) -> str:
    """``Image Name`` -> ``image_name``: the name of a column or key in lower case, without quotes."""
    return re.sub(r"[\s\-.]+", "_", name.strip().strip("\"'").strip().lower())


def find_column(names: Sequence[str], known: Sequence[str]) -> int | None:
    """The position of the first of ``known`` that is in ``names``, which are normalized."""
    return next((names.index(name) for name in known if name in names), None)


def caption_columns(names: Sequence[str]) -> list[int]:
    """The positions of the caption columns: those of one name, also with numbers (``caption``, ``caption_1``)."""
    numbered = {n: match[1] for n, name in enumerate(names) if (match := NUMBERED_CAPTION.fullmatch(name))}
    column = find_column(names, CAPTION_COLUMNS)
    if column is None:
        return list(numbered)
    return [n for n, name in enumerate(names) if names[column] in (name, numbered.get(n))]


def find_key(entry: Mapping[str, Any], known: Sequence[str]) -> str | None:
    """The first key of ``entry`` that is one of ``known``, in any spelling of ``normalize_name``."""
    for name in known:
        if name in entry:
            return name
    spelled = {normalize_name(str(key)): key for key in entry}
    return next((spelled[name] for name in known if name in spelled), None)


def caption_values(value: Any, key: str) -> tuple[str, ...]:
    """The captions in a string, a list of strings, or a list of ``{"raw": ...}``; None has none. Raises ValueError."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise ValueError(f"has {str(value)[:40]!r} as {key!r}")
    texts = [item.get("raw") if isinstance(item, dict) else item for item in values]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"has {key!r} that are not strings")
    return tuple(str(text).strip() for text in texts)


def cell_captions(cell: str) -> tuple[str, ...]:
    """The captions in a cell of a table: one, or a list in JSON or Python notation."""
    text = cell.strip()
    if text[:2] in ('["', "['") and text.endswith("]"):
        for parse in (json.loads, ast.literal_eval):
            try:
                return caption_values(parse(text), "caption")
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return (re.sub(r"\s*\n\s*", " ", text),)
