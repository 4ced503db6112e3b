"""Errors as problem JSON (RFC 9457) with the message and the hint of the command line."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from xmodal_cli.errors import MissingData, UnknownName, XmodalError
from xmodal_cli.serve.result_response import ResultResponse

BUSY_SECONDS = "1"


class Busy(XmodalError):
    """Too many requests are waiting."""


class Disconnected(XmodalError):
    """The client has closed its connection; nobody reads the response."""


class TooLarge(XmodalError):
    """A request or a photo above the limits of the server."""


_STATUS: dict[type[XmodalError], int] = {
    Busy: 503,
    TooLarge: 413,
    Disconnected: 499,
    UnknownName: 404,
    MissingData: 404,
}


def problem(status: int, title: str, hint: str = "", headers: dict[str, str] | None = None) -> Response:
    """The response of an error; ``title`` is the message."""
    content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if hint:
        content["hint"] = hint
    return ResultResponse(content, status, headers, media_type="application/problem+json")


def problem_of(request: Request, error: Exception) -> Response:
    """An exception handler of Starlette for ``XmodalError``."""
    assert isinstance(error, XmodalError)
    headers = {"Retry-After": BUSY_SECONDS} if isinstance(error, Busy) else None
    return problem(status_of(error), error.message, error.hint, headers)


def status_of(error: XmodalError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
