"""Pages with one message: an error, or that something is being read or computed."""

from __future__ import annotations

from starlette.responses import HTMLResponse, Response

from xmodal_cli.errors import XmodalError
from xmodal_cli.reports.pages import render
from xmodal_cli.serve.cache_headers import NO_CACHE
from xmodal_cli.serve.problems import Busy, Disconnected, status_of


def draw_notice(title: str, text: str, hint: str = "") -> str:
    """The page; its navigation leads to the others."""
    return render("notice", {"title": title, "text": text, "hint": hint})


def error_page(title: str, error: XmodalError) -> Response:
    """The page of an error, with the status of its problem JSON. Raises the error of a busy server."""
    if isinstance(error, Busy | Disconnected):
        raise error
    return HTMLResponse(draw_notice(title, error.message, error.hint), status_of(error), NO_CACHE)
