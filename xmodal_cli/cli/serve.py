"""``xmodal serve``: the web application and the HTTP API on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.cli import options, output


def command(
    index: Annotated[
        str | None, typer.Option("--index", metavar="INDEX", help="Index of the first page (default: the last built).")
    ] = None,
    port: Annotated[int, typer.Option("--port", metavar="P", min=1, max=65535, help="Port.")] = 7878,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen on; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the web browser.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Update the index when photos in its folders change.")] = False,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="Folder of training runs to show (default: runs in XMODAL_HOME)."),
    ] = None,
    runtime: options.RuntimeOption = options.Runtime.auto,
) -> None:
    """Search photos in a web browser: a page and an HTTP API on this machine.

    The page searches while you type. Another page shows training runs with their curves. Only photos of indexes are
    served. Stop the server with Ctrl-C.

    Examples:

      xmodal serve --open

      xmodal serve --index holidays --port 8000

      xmodal serve --index holidays --watch

      xmodal serve --runs experiments/
    """
    from xmodal_cli.serve import server
    from xmodal_cli.serve.settings import ServeSettings

    settings = ServeSettings(index, host, port, runtime=runtime.value, watch=watch, runs=runs)
    if not settings.is_local:
        settings = replace(settings, token=server.new_token())
    server.check_settings(settings)
    listener = server.bind(settings)
    address = server.address_of(settings)
    output.print_line(f"serving at {address}")
    if open_page:
        import webbrowser

        webbrowser.open(address)
    server.run(settings, listener)
