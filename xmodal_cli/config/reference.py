"""The table of all settings, made from the metadata of their fields.

``python -m xmodal_cli.config.reference > docs/settings.md`` updates the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from xmodal_cli.config.sections import Component, Config
from xmodal_cli.config.toml_text import walk
from xmodal_cli.settings import info_of

INTRODUCTION = """# Settings

Made from the settings themselves by `python -m xmodal_cli.config.reference`; a test keeps it current.

A setting is set by a preset or a TOML file, and on top of that by `--set SECTION.KEY=VALUE`.
`xmodal train --model PRESET --print-config` prints the settings of a preset as TOML, which `--model FILE.toml` reads.
A component, such as `loss`, is set by its name (`--set loss=infonce`) and its arguments
(`--set loss.args.temperature=0.05`), which its `build` checks. Numbers are finite.
Old names in files of earlier versions are replaced by the new ones when a file is read.
"""


def settings_page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *_sections(Config())])


def _sections(config: Config) -> Iterator[str]:
    top = [row for row in walk(config) if "." not in row[0] and _is_setting(row[2])]
    yield _table("General", top)
    for section, field, value in walk(config):
        if "." not in section and not _is_setting(value):
            rows = [row for row in walk(value, f"{section}.") if row[0].count(".") == 1 and _is_setting(row[2])]
            yield _table(f"`[{section}]`: {info_of(field).help}", rows)


def _is_setting(value: Any) -> bool:
    """Whether ``value`` is one row of a table: a component counts as one, another section does not."""
    return isinstance(value, Component) or not is_dataclass(value)


def _table(title: str, rows: list[tuple[str, Any, Any]]) -> str:
    cells = [(path, _show(value), str(info_of(field).bounds), info_of(field).help) for path, field, value in rows]
    lines = [f"| `{path}` | {value} | {bounds} | {text} |" for path, value, bounds, text in cells]
    return "\n".join([f"## {title}\n", "| setting | default | bounds | |", "|---|---|---|---|", *lines, ""])


def _show(value: Any) -> str:
    if isinstance(value, Component):
        return f"`{value.name}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{', '.join(value)}`"
    return f"`{value}`" if value or isinstance(value, int | float) else ""


if __name__ == "__main__":
    sys.stdout.write(settings_page())
