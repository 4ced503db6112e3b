"""Search results for other programs: one record per photo, its path or a format such as ``{score:.3f} {path}``."""

from __future__ import annotations

import os
import re
import string
import sys
from typing import TYPE_CHECKING

from xmodal_cli.cli import output
from xmodal_cli.errors import ConfigError
from xmodal_cli.printable import escape_unprintable

if TYPE_CHECKING:
    from xmodal_cli.retrieval.search_result import SearchResult

PATHS = "{path}"
FIELDS = ("rank", "score", "path", "name", "folder", "duplicates")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
_MAX_WIDTH = 1000  # characters
_EXAMPLE = "for example: --format '{score:.3f} {path}'; the fields are " + ", ".join(FIELDS)


def check_format(template: str) -> str:
    """Return ``template`` with its escapes ``\\t``, ``\\n`` and ``\\0`` replaced. Raises ConfigError."""
    replaced = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), template, flags=re.DOTALL)
    try:
        fields = [field for field in string.Formatter().parse(replaced) if field[1] is not None]
        names = [name for _, name, _, _ in fields]
        if any(int(number) > _MAX_WIDTH for *_, spec, _ in fields for number in re.findall(r"\d+", spec or "")):
            raise ValueError(f"a width or precision of more than {_MAX_WIDTH:,}")
        if any("{" in (spec or "") for *_, spec, _ in fields):
            raise ValueError("a field inside of a format")
        unknown = next((name for name in names if name not in FIELDS), None)
        if unknown is None:
            replaced.format(**_values(0, 0.0, os.sep, 0))
            return replaced
        problem = f"there is no field {unknown!r}" if unknown else "a field has no name"
    except (ValueError, IndexError, KeyError) as error:
        problem = str(error).lower()
    raise ConfigError(f"--format {template!r}: {problem}", _EXAMPLE)


def print_lines(result: SearchResult, template: str = PATHS, end: str = "\n") -> None:
    """Print one record per hit, followed by ``end``. ``template`` is one that ``check_format`` has returned.

    Names are written as they are, byte for byte, except on a terminal, where control characters are escaped.
    """
    for hit in result.hits:
        record = template.format(**_values(hit.rank, hit.score, hit.path, hit.duplicates))
        if output.is_terminal(sys.stdout):
            output.print_text("\n".join(map(escape_unprintable, record.split("\n"))))
        else:
            output.print_bytes(os.fsencode(record + end))


def _values(rank: int, score: float | None, path: str, duplicates: int) -> dict[str, object]:
    folder, name = os.path.split(path)
    number = float("nan") if score is None else score  # a format such as {score:.3f} needs a number
    return {"rank": rank, "score": number, "path": path, "name": name, "folder": folder, "duplicates": duplicates}
