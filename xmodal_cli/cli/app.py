"""All commands put together: one file each, one line here. Importing it loads typer and nothing heavy.

A command's file has ``command``, a function with Typer annotations, and may have ``CommandClass``, a Typer command
class that parses its arguments. A group of commands has ``app``, a ``typer.Typer``, instead.
"""

from __future__ import annotations

from importlib import import_module

import typer

from xmodal_cli.version import __version__

COMMANDS = (
    "data",
    "train",
    "eval",
    "features",
    "index",
    "search",
    "caption",
    "models",
    "demo",
    "doctor",
)

app = typer.Typer(
    name="xmodal",
    help="Train, evaluate and use image-text retrieval and captioning models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"xmodal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for _name in COMMANDS:
    _module = import_module(f"xmodal_cli.cli.{_name}")
    if hasattr(_module, "app"):
        app.add_typer(_module.app, name=_name)
    else:
        app.command(_name, cls=getattr(_module, "CommandClass", None))(_module.command)
