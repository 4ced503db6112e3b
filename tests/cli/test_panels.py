"""Options in groups: the same on a terminal, in plain help and in the command reference."""

from __future__ import annotations

import pytest
import typer.main

from xmodal_cli.cli.app import COMMANDS, build_app
from xmodal_cli.cli.panels import FIRST, options_by_panel
from xmodal_cli.cli.reference import reference

MOST = 12  # options that a reader has to look through at once


def commands(path, command):
    """All commands except groups, as (words, command)."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from commands((*path, name), child)
    if not children:
        yield path, command


LEAVES = dict(commands((), typer.main.get_command(build_app())))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_no_group_of_options_is_long(path):
    assert all(len(options) <= MOST for options in options_by_panel(LEAVES[path]).values())


@pytest.mark.parametrize("name", COMMANDS)
def test_plain_help_lists_each_option_once_in_its_group(xmodal, name):
    for path, command in LEAVES.items():
        if path[0] != name:
            continue
        lines = xmodal(*path, "--help").out.splitlines()
        headers = [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")]
        panels = list(options_by_panel(command))
        assert headers[-len({FIRST, *panels}) :] == [FIRST, *(panel for panel in panels if panel != FIRST)]
        named = [line.split()[0] for line in lines if line.startswith("  -")]
        assert sorted(named) == sorted([*(option.opts[0] for option in command.params if option.name != "help"
                                          and option.param_type_name == "option"), "-h,"])  # fmt: skip


def test_an_option_is_in_the_same_group_in_all_commands():
    groups: dict[tuple[str, str], set[str]] = {}
    for command in LEAVES.values():
        for panel, options in options_by_panel(command).items():
            for option in options:
                groups.setdefault((option.opts[0], option.help), set()).add(panel)
    assert {name: panels for name, panels in groups.items() if len(panels) > 1} == {}


def test_the_reference_has_the_groups():
    assert "|  | **Captions** |" in reference()
