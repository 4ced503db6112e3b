"""Errors as problem JSON (RFC 9457) with the message and the hint of the command line."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from xmodal_cli.errors import MissingData, UnknownName, XmodalError

BUSY_SECONDS = "1"


class Busy(XmodalError):
    """Too many requests are waiting."""


class TooLarge(XmodalError):
    """A request or a photo above the limits of the server."""


def problem(status: int, title: str, hint: str = "", headers: dict[str, str] | None = None) -> JSONResponse:
    """The response of an error; ``title`` is the message."""
    content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if hint:
        content["hint"] = hint
    return JSONResponse(content, status, headers, media_type="application/problem+json")


def problem_of(request: Request, error: Exception) -> Response:
    """An exception handler of Starlette for ``XmodalError``."""
    assert isinstance(error, XmodalError)
    headers = {"Retry-After": BUSY_SECONDS} if isinstance(error, Busy) else None
    return problem(_status_of(error), _printable(error.message), _printable(error.hint), headers)


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _status_of(error: XmodalError) -> int:
    if isinstance(error, Busy):
        return 503
    if isinstance(error, TooLarge):
        return 413
    return 404 if isinstance(error, UnknownName | MissingData) else 400
