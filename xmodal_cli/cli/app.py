"""The Typer app with the commands. Importing it loads typer but no heavy packages.

Each command is a module with ``command``, a function with Typer annotations, and optionally ``CommandClass``, a Typer
command class that parses its arguments. The module of a command group has ``app``, a ``typer.Typer``, instead.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import cleandoc
from typing import Any

import typer
import typer.main

from xmodal_cli.cli import output
from xmodal_cli.cli.panels import use_plain_panels
from xmodal_cli.printable import escape_unprintable
from xmodal_cli.version import __version__

COMMANDS = (
    "data",
    "train",
    "eval",
    "features",
    "index",
    "search",
    "serve",
    "vectors",
    "caption",
    "models",
    "demo",
    "doctor",
)

HELP_WIDTH = 100  # columns, if stdout is not a terminal


def build_app(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """The app with the named commands. Typer inspects each function, which takes as long as a short command."""
    app = typer.Typer(
        name="xmodal",
        help="Train, evaluate and use image-text retrieval and captioning models.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": HELP_WIDTH},
        callback=_root,
    )
    for name in names:
        module = import_module(f"xmodal_cli.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name, cls=getattr(module, "CommandClass", None))(module.command)
    return app


def run(args: Sequence[str]) -> None:
    """Run one command line. Help and usage errors are formatted by rich on a terminal and are plain text elsewhere.

    Plain text does not depend on the environment: help is ``HELP_WIDTH`` columns wide and errors are not wrapped.
    """
    on_terminal = output.supports_escapes(sys.stdout) and output.supports_escapes(sys.stderr)
    app = build_app(args[:1] if args and args[0] in COMMANDS else COMMANDS)
    app.rich_markup_mode = "rich" if on_terminal else None
    command = typer.main.get_command(app)
    if not on_terminal:
        _use_plain_help(command)
    try:
        code = command(args=list(args), prog_name="xmodal", standalone_mode=False, obj=list(args))
    except typer.Abort:
        code = 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # that of usage errors
            raise
        code = _show_usage_error(error, on_terminal)
    if code:
        raise SystemExit(code)


def _show_usage_error(error: Any, on_terminal: bool) -> int:
    """Print a usage error; returns its exit code. Arguments in it may be file names that a shell has expanded."""
    error.message = escape_unprintable(error.message, keep="\n")
    with contextlib.suppress(OSError):  # stderr cannot be written
        if on_terminal:
            from typer.rich_utils import rich_format_error

            rich_format_error(error)
        else:
            error.show(file=sys.stderr)
    return int(error.exit_code)


def _use_plain_help(command: Any) -> None:
    """Set the first paragraph of each command's help as its short help, which is not truncated in lists of commands.

    Options are listed in their groups.
    """
    for child in getattr(command, "commands", {}).values():
        child.short_help = " ".join(cleandoc(child.help or "").partition("\n\n")[0].split())
        if hasattr(child, "commands"):
            _use_plain_help(child)
        else:
            use_plain_panels(child)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"xmodal {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass
