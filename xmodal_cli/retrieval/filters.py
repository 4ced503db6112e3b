"""Filters of a search: the photos of a folder, of a period, with a file name or with a caption.

A filter is compiled to a condition on the table ``items`` (``database.py``), so that SQLite selects the photos and only
their vectors are scored. Filters do not change scores.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

from xmodal_cli.errors import ConfigError
from xmodal_cli.retrieval.conditions import ALL, CAPTIONS, DATE, Condition
from xmodal_cli.retrieval.text_filter import TextFilter

NAME_FUNCTION = "name_matches"  # of SQLite, for names that are not ASCII
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}))?)?)?)?")
_DATE_HINT = "write a year, a month or a day: 2024, 2024-06 or 2024-06-15"
# the part of a path after its last separator
_NAME = "replace(CAST(path AS TEXT), rtrim(CAST(path AS TEXT), replace(CAST(path AS TEXT), ?, '')), '')"


@dataclass(frozen=True)
class PhotoFilter:
    """The conditions on the photos of a search; all of them hold, and one of ``folders`` if there are any.

    ``folders`` are absolute paths. ``after`` and ``before`` are times in ISO 8601, the first included and the second
    excluded; they are compared with the date in the EXIF data, or with the modification time of a file without one.
    """

    folders: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    texts: tuple[TextFilter, ...] = ()

    def __bool__(self) -> bool:
        return self != PhotoFilter()

    @property
    def uses_dates(self) -> bool:
        """Whether dates are compared."""
        return self.after is not None or self.before is not None

    @property
    def uses_captions(self) -> bool:
        """Whether captions are compared."""
        return any(text.field == "caption" for text in self.texts)

    def condition(self) -> Condition:
        """The condition on a row of ``items``."""
        condition = ALL
        if self.folders:
            parts = [_inside(folder) for folder in self.folders]
            condition = condition.and_also(
                " OR ".join(sql for sql, _ in parts), [value for _, values in parts for value in values]
            )
        if self.after is not None:
            condition = condition.and_also(f"{DATE} >= ?", [self.after])
        if self.before is not None:
            condition = condition.and_also(f"{DATE} < ?", [self.before])
        for text in self.texts:
            sql, values = _caption(text.text) if text.field == "caption" else _file_name(text.text)
            condition = condition.and_also(f"NOT ({sql})" if text.negative else sql, values)
        return condition


def parse_date(text: str, option: str) -> str:
    """The start of a year, month, day or minute in ISO 8601: ``2024-06`` -> ``2024-06-01T00:00:00``.

    Raises ConfigError that names ``option``.
    """
    match = _DATE.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError("it is not a date")
        year, month, day, hour, minute, second = (None if part is None else int(part) for part in match.groups())
        return datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0).isoformat()
    except ValueError as error:
        raise ConfigError(f"{option} {text!r} is not a date", _DATE_HINT) from error


def matches_name(pattern: str, path: bytes) -> bool:
    """Whether a file name contains ``pattern``, or matches it if it has ``*`` or ``?``, in any case and composition."""
    import fnmatch

    name, text = (unicodedata.normalize("NFC", part).casefold() for part in (_base_name(path), pattern))
    return fnmatch.fnmatchcase(name, text.replace("[", "[[]")) if _has_wildcards(text) else text in name


def _base_name(path: bytes) -> str:
    return os.path.basename(os.fsdecode(path))  # noqa: PTH119 - called for every photo


def _inside(folder: str) -> tuple[str, list[str | bytes]]:
    path, separator = os.fsencode(folder), os.fsencode(os.sep)
    prefix = path.rstrip(separator) + separator
    return "path = ? OR (path >= ? AND path < ?)", [path, prefix, prefix[:-1] + bytes([prefix[-1] + 1])]


def _file_name(text: str) -> tuple[str, list[str | bytes]]:
    if not text.isascii():
        return f"{NAME_FUNCTION}(?, path)", [text]
    pattern = re.sub(r"([\\%_])", r"\\\1", text)  # SQLite ignores the case of ASCII letters
    pattern = pattern.replace("*", "%").replace("?", "_") if _has_wildcards(text) else f"%{pattern}%"
    like = "LIKE ? ESCAPE '\\'"
    return f"CAST(path AS TEXT) {like} AND {_NAME} {like}", [f"%{pattern}", os.sep, pattern]


def _has_wildcards(text: str) -> bool:
    return "*" in text or "?" in text


def _caption(text: str) -> tuple[str, list[str | bytes]]:
    phrase = 'caption : "' + text.replace('"', '""') + '"'  # words in this order
    return f"id IN (SELECT rowid FROM {CAPTIONS} WHERE {CAPTIONS} MATCH ?)", [phrase]
