"""Generated blocks of Markdown pages: the text between ``<!-- NAME: begin ... -->`` and ``<!-- NAME: end -->``."""

from __future__ import annotations

import re
from pathlib import Path


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: begin[^\n]*-->\n)(.*?)(\n<!-- {name}: end -->)", re.S)


def block(page: Path, name: str) -> str:
    """The text of the block as it is on the page. Raises AssertionError where there is not exactly one."""
    found = _pattern(name).findall(page.read_text(encoding="utf-8"))
    assert len(found) == 1, f"{page.name} has {len(found)} blocks {name!r}"
    return str(found[0][1])


def update(page: Path, name: str, text: str) -> None:
    """Replace the text of the block."""
    block(page, name)
    old = page.read_text(encoding="utf-8")
    page.write_text(_pattern(name).sub(lambda m: f"{m[1]}{text}{m[3]}", old), encoding="utf-8")
