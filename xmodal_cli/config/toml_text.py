"""A configuration as TOML, with the help text of each setting as a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any

from xmodal_cli.config.loading import to_dict
from xmodal_cli.config.sections import Config
from xmodal_cli.settings import info_of


def to_toml(config: Config, comments: bool = False) -> str:
    """The resolved configuration as TOML; with ``comments``, a comment line before each setting."""
    import tomli_w

    text = tomli_w.dumps(to_dict(config))
    if not comments:
        return text
    declared = {path: field for path, field, _ in walk(config)}
    return "".join(f"{line}\n" for line in _commented(text.splitlines(), declared))


def walk(settings: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """The path, field and value of all settings and sections, a section before its settings."""
    for field in fields(settings):
        value, path = getattr(settings, field.name), f"{prefix}{field.name}"
        yield path, field, value
        if is_dataclass(value):
            yield from walk(value, f"{path}.")


def _commented(lines: list[str], declared: dict[str, Field[Any]]) -> Iterator[str]:
    """``lines`` of TOML, as tomli_w writes them, with comments: only keys begin a line without spaces."""
    section = ""
    for line in lines:
        if header := re.fullmatch(r"\[(.+)\]", line):
            section = f"{header[1]}."
        path = section.removesuffix(".") if header else section + line.partition(" = ")[0]
        if path in declared and info_of(declared[path]).help:  # the fields of a component have none
            yield _comment(declared[path])
        yield line


def _comment(field: Field[Any]) -> str:
    info = info_of(field)
    bounds = str(info.bounds)
    return f"# {info.help}{f' ({bounds})' if bounds else ''}"
