"""Options in groups, as on a terminal: in plain help, and in the command reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIRST = "Options"  # the group of options without a panel


def options_by_panel(command: Any) -> Mapping[str, list[Any]]:
    """The options of a command by the names of their panels, in the order of Typer: those without one first."""
    panels: dict[str, list[Any]] = {FIRST: []}
    for option in command.params:
        if option.param_type_name == "option":
            panels.setdefault(getattr(option, "rich_help_panel", None) or FIRST, []).append(option)
    return {panel: options for panel, options in panels.items() if options}


def use_plain_panels(command: Any) -> None:
    """Write the help of ``command`` as plain text with its groups, which Typer does only with Rich."""

    def format_options(ctx: Any, formatter: Any) -> None:
        arguments = [p for p in command.get_params(ctx) if p.param_type_name == "argument"]
        panels = {"Arguments": arguments, FIRST: [], **options_by_panel(command)}
        panels[FIRST] = [*panels[FIRST], *filter(None, [command.get_help_option(ctx)])]
        for panel, parameters in panels.items():
            records = [record for p in parameters if (record := p.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)

    command.format_options = format_options
