"""ASGI middleware that refuses foreign requests, and adds the security headers.

A page of another site can make a browser send requests to this machine. The Host header is checked against DNS
rebinding, and the Origin and Sec-Fetch-Site headers against requests of other sites.
"""

from __future__ import annotations

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xmodal_cli.serve.problems import problem
from xmodal_cli.serve.settings import ServeSettings

COOKIE = "xmodal_token"
POLICY = (
    "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE_SITES = ("same-origin", "none", "")
_OTHER_SITE = (403, "requests of other sites are refused")
_NO_TOKEN = (401, "this server needs its token: open the address that it printed")


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    found.setdefault(name, value)  # a page may have a policy of its own
                if token:
                    found["Set-Cookie"] = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
            await send(message)

        token = self._new_token(scope)
        refusal = self._foreign(headers) or (None if token else self._without_token(headers))
        if refusal is not None:
            await problem(*refusal)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _foreign(self, headers: Headers) -> tuple[int, str] | None:
        """(status, reason) for a request of another host or site, else None."""
        host = headers.get("host", "")
        if not self._settings.allows_host(host):
            return 403, "the Host header does not name this server"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return _OTHER_SITE
        is_link = headers.get("sec-fetch-mode") == "navigate"
        return None if site in _SAFE_SITES or is_link else _OTHER_SITE

    def _without_token(self, headers: Headers) -> tuple[int, str] | None:
        """(status, reason) for a request without the token, if the server has one, else None."""
        token = self._settings.token
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else _cookie(headers.get("cookie", ""))
        return _NO_TOKEN if token and not _equal(given, token) else None

    def _new_token(self, scope: Scope) -> str:
        """The token, if the address of a page has it: it becomes a cookie."""
        token = self._settings.token
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return token if token and scope["path"] == "/" and _equal(given, token) else ""


def _equal(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""
