"""The command reference, generated from the commands.

``python -m xmodal_cli.cli.reference > docs/commands.md`` updates the page.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import typer.main

from xmodal_cli.cli.app import build_app
from xmodal_cli.cli.panels import FIRST, options_by_panel

INTRODUCTION = """# Commands

Generated from `--help` by `python -m xmodal_cli.cli.reference`; a test checks that it is current.

Every command has `--help`. Results go to stdout, with `--json` as JSON; progress and warnings go to stderr. Exit codes:
0 success, 1 user-fixable error (an `error:` and a `hint:` line), 2 wrong usage, 128 + the signal if interrupted (130
after Ctrl-C, with a line on how to resume). `XMODAL_HOME` sets the folder for datasets, runs, models, indexes and
caches; `XMODAL_DEBUG=1` shows tracebacks.
"""


def reference() -> str:
    """The page as Markdown."""
    root = typer.main.get_command(build_app())
    sections = [section for path, command in _leaves("xmodal", root) for section in _page(path, command)]
    return "\n".join([INTRODUCTION, *sections])


def _leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name in sorted(children):
        yield from _leaves(f"{path} {name}", children[name])


def _page(path: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    words = " ".join(_placeholder(a) for a in arguments)
    yield f"## {path}\n\n```\n{path} {words}{' ' if words else ''}[OPTIONS]\n```\n"
    text, _, examples = inspect.cleandoc(command.help or "").partition("Examples:")
    yield f"{text.strip()}\n"
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    yield "\n".join(["```", *lines, "```\n"])
    rows = [(_placeholder(a), a.help) for a in arguments]
    for panel, options in options_by_panel(command).items():
        rows += [("", f"**{panel}**")] if panel != FIRST else []
        named = [o for o in options if o.name != "help"]
        rows += [(" ".join([", ".join(o.opts), _value(o)]).strip(), o.help) for o in named]
    cells = ((f"`{_cell(name)}`" if name else "", _cell(text)) for name, text in rows)
    yield "\n".join(["| option | |", "|---|---|", *(f"| {name} | {text} |" for name, text in cells), ""])


def _placeholder(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _value(option: Any) -> str:
    return "" if option.is_flag else str(option.metavar or option.name.upper())


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
