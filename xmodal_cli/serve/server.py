"""Runs the application with uvicorn."""

from __future__ import annotations

import errno
import secrets
import socket

from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.serve.settings import ServeSettings, in_address

MAX_PORT = 65535


def new_token() -> str:
    """A token of 192 bits."""
    return secrets.token_urlsafe(24)


def address_of(settings: ServeSettings) -> str:
    """The address of the page, with the token if there is one."""
    token = f"?token={settings.token}" if settings.token else ""
    return f"http://{in_address(settings.host)}:{settings.port}/{token}"


def check_settings(settings: ServeSettings) -> None:
    """Raises UnknownName, MissingData for an unknown index or folder, ConfigError for one without folders to watch."""
    if settings.runs is not None and not settings.runs.is_dir():
        raise MissingData(f"{settings.runs} is not a folder", "--runs is a folder of training runs, or one run")
    if settings.index is not None or settings.watch:
        folder = registry.find_index(settings.index)
        if settings.watch and not read_metadata(folder).roots:
            raise ConfigError(f"the index {folder.name} has no folders to watch", "it has imported vectors only")


def bind(settings: ServeSettings) -> socket.socket:
    """The listening socket. Raises ConfigError if the port or the host cannot be used."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, reuse_port=False)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = settings.port + 1 if settings.port < MAX_PORT else settings.port - 1
            raise ConfigError(f"the port {settings.port} is in use", f"use another one: --port {other}") from error
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", "choose another --host or --port"
        ) from error


def run(settings: ServeSettings, listener: socket.socket) -> None:
    """Serve until an interrupt."""
    import uvicorn

    from xmodal_cli.serve.application import create_app

    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        limit_concurrency=500,
        h11_max_incomplete_event_size=65536,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listener])
