"""The Typer shell: one file per command, put together in ``_app.py``.

Importing the folder loads nothing, since a search is answered before typer would be loaded; see ``quick.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmodal_cli.cli._app import app as app


def __getattr__(name: str) -> Any:
    """``app``, when it is first asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xmodal_cli.cli._app import app

    return app
