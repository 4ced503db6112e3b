"""Reads text and JSON files; errors have the file and the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xmodal_cli.errors import BadData


def read_text(file: Path) -> str:
    """The text of a UTF-8 file with ``\\n`` line ends. Raises BadData with the first line that is not UTF-8."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadData(f"{file} cannot be read: {error.strerror}", "check the file and its permissions") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadData(f"{file}, line {line} is not UTF-8 text", "save it as UTF-8, or fetch it again") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file. Raises BadData.

    Only newlines end a line: captions and JSON may have other characters at which ``str.splitlines`` splits.
    """
    lines = read_text(file).split("\n")
    return lines if lines[-1] else lines[:-1]


def read_json(file: Path) -> Any:
    """The content of a JSON file. Raises BadData."""
    return parse_json(read_text(file), str(file))


def parse_json(text: str, where: str) -> Any:
    """The content of JSON text; ``where`` is its source in errors. Raises BadData."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{where} is not valid JSON: {error}", "fix the file, or fetch it again if truncated") from error


def field(entry: Any, key: str, *kinds: type) -> Any:
    """``entry[key]``. Raises ValueError if it is missing, or not of one of the types ``kinds`` (default: str)."""
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"has no {key!r}")
    value = entry[key]
    if not isinstance(value, kinds or str):
        raise ValueError(f"has {str(value)[:40]!r} as {key!r}")
    return value
