"""The settings of the server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT = 7878
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeSettings:
    """``index`` is that of the first page, None for the one built last.

    With ``watch`` it is updated when its photos change. ``token`` is required of every request if it is not empty.
    ``max_waiting`` requests wait for the models, further ones are refused. Uploads have at most ``max_upload`` bytes
    each, and ``max_photos`` photos. ``runs`` is a folder of training runs, None for that in ``XMODAL_HOME``.
    """

    index: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = ""
    runtime: str = "auto"
    max_waiting: int = 64
    max_upload: int = 64 * 2**20
    max_photos: int = 8
    watch: bool = False
    runs: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in LOCAL_HOSTS

    def allows_host(self, header: str) -> bool:
        """Whether a Host header names this server; with a token, any name may lead here."""
        if not self.is_local:
            return bool(self.token)
        name = header.lower().removesuffix(f":{self.port}")
        return name in map(in_address, LOCAL_HOSTS)


def in_address(host: str) -> str:
    """A host as it is written in an address: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
