"""``xmodal search --server``: searches on a server that has the index and its model loaded, by the HTTP API."""

from __future__ import annotations

import http.client
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from xmodal_cli.errors import BadData, ConfigError, MissingData, Unavailable, XmodalError
from xmodal_cli.paths import absolute_path, expand_home
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval.query import Query, parse_query
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.search_result import Hit, SearchResult
from xmodal_cli.retrieval.text_filter import parse_text_filter

TIMEOUT = 120.0  # seconds; the first query of a server loads its model
_HINT = "give the address that `xmodal serve` printed, for example http://127.0.0.1:7878/"


class RemoteSearcher:
    """Searches as ``recipes.search.Searcher`` does. Files of photos are read here and sent.

    ``address`` is the one that ``xmodal serve`` prints. The environment variable XMODAL_TOKEN replaces the token in it.
    Raises ConfigError.
    """

    def __init__(self, address: str, index: str | None = None, reporter: Reporter = SILENT) -> None:
        self._index, self._reporter = index, reporter
        try:
            found = urlsplit(address if "://" in address else f"http://{address}")
            self._host, self._port, scheme = found.hostname, found.port, found.scheme
        except ValueError as error:
            raise ConfigError(f"{address!r} is not an address: {error}", _HINT) from error
        if scheme not in ("http", "https") or not self._host:
            raise ConfigError(f"{address!r} is not the address of a server", _HINT)
        self._is_secure, self._folder = scheme == "https", found.path.rstrip("/")
        self._token = os.environ.get("XMODAL_TOKEN") or parse_qs(found.query).get("token", [""])[0]
        self.address = f"{scheme}://{found.netloc.rpartition('@')[2]}{self._folder}/"

    def search(self, words: Sequence[str], options: SearchOptions = SearchOptions()) -> SearchResult:
        """The best photos for the terms ``words``. Raises the errors of ``recipes.search``, and Unavailable."""
        query = parse_query(words, options)
        record = self._request("search", _parameters(query, self._index), [t.image for t in query.terms if t.image])
        for warning in record.get("warnings", []):
            self._reporter.warn(warning)
        try:
            return _result(record, tuple(words))
        except (KeyError, TypeError) as error:
            raise self._unexpected("its results have another format") from error

    def _request(self, name: str, parameters: Sequence[tuple[str, str]], photos: Sequence[Path]) -> dict[str, Any]:
        target = f"{self._folder}/api/{name}?{urlencode(parameters, errors='surrogateescape')}"
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        body = None
        if photos:
            boundary = secrets.token_hex(16)
            headers["Content-Type"], body = f"multipart/form-data; boundary={boundary}", _form(photos, boundary)
        status, content = self._exchange("POST" if photos else "GET", target, body, headers)
        try:
            record = json.loads(content)
        except ValueError as error:
            raise self._unexpected(f"its response with status {status} is not JSON") from error
        if not isinstance(record, dict):
            raise self._unexpected("its response is not a record")
        if status != http.client.OK:
            raise _error(status, record)
        return record

    def _exchange(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(str(self._host), self._port, timeout=TIMEOUT)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.InvalidURL as error:
            raise ConfigError(f"{self.address} is not an address: {error}", _HINT) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            message = f"no server responds at {self.address}: {reason.lower()}"
            raise Unavailable(message, f"start it: xmodal serve; or {_HINT}") from error
        finally:
            connection.close()

    def _unexpected(self, reason: str) -> BadData:
        return BadData(f"{self.address} is not a server of this version of xmodal: {reason}", _HINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _parameters(query: Query, index: str | None) -> list[tuple[str, str]]:
    """The parameters of ``GET /api/search``: sentences and filters as typed, photos by position and weight."""
    options, found = query.options, [] if index is None else [("index", index)]
    terms = iter(query.terms)
    for word in query.words:
        is_photo = parse_text_filter(word) is None and next(terms).image is not None
        found += [] if is_photo else [("term", word)]
    photos = [(position, term) for position, term in enumerate(query.terms) if term.image is not None]
    for position, term in photos:
        found += [("at", str(position)), ("weight", repr(term.weight))]
    found += [("in", _folder(name)) for name in options.folders]
    values = {"k": options.num_hits, "threshold": options.threshold, "after": options.after, "before": options.before}
    found += [(name, str(value)) for name, value in values.items() if value is not None]
    return [*found, *([("exact", "1")] if options.exact else []), *([] if options.fold else [("all", "1")])]


def _folder(name: str) -> str:
    """A folder that exists is relative to the current one, which is not that of the server."""
    path = expand_home(name)
    return str(absolute_path(path)) if os.path.lexists(path) else name


def _form(photos: Sequence[Path], boundary: str) -> bytes:
    parts = []
    for path in photos:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadData(f"{path} cannot be read: {error.strerror}", "check the file and its permissions") from error
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; filename="photo"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def _error(status: int, record: dict[str, Any]) -> XmodalError:
    kind = {404: MissingData, 503: Unavailable}.get(status, BadData)
    return kind(str(record.get("title") or f"status {status}"), str(record.get("hint") or ""))


def _result(record: dict[str, Any], words: tuple[str, ...]) -> SearchResult:
    hits = tuple(Hit(hit["rank"], hit["path"], hit["score"], hit["duplicates"]) for hit in record["hits"])
    return SearchResult(
        index=record["index"],
        model=record["model"],
        similarity=record["similarity"],
        query=words,
        hits=hits,
        items=record["items"],
        vanished=record["vanished"],
        unknown_words=tuple(record["unknown_words"]),
        folder=record["folder"],
    )
