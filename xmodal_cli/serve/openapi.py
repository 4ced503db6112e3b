"""The description of the HTTP API (OpenAPI 3.1), for programs that generate clients and forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from xmodal_cli.serve.browsed_dataset import PAGE
from xmodal_cli.serve.dataset_request import MAX_PAGE, Shown
from xmodal_cli.serve.search_request import DEFAULT_HITS, MAX_HITS, MAX_LINE
from xmodal_cli.version import __version__

_STRING, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_IDS = {"type": "array", "items": _INTEGER}
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "q": ({"type": "string", "maxLength": MAX_LINE}, "A line in the query grammar; a sentence, or words of captions."),
    "term": ({"type": "array", "items": _STRING}, "One term of the query, as an argument of xmodal search."),
    "index": (_STRING, "Name of an index; the default is that of the server."),
    "k": ({**_INTEGER, "minimum": 1, "maximum": MAX_HITS, "default": DEFAULT_HITS}, "Number of photos."),
    "offset": ({**_INTEGER, "minimum": 0, "maximum": MAX_HITS, "default": 0}, "Number of hits to skip."),
    "in": ({"type": "array", "items": _STRING}, "Only photos in this folder."),
    "after": (_STRING, "Only photos of this date or later: 2024, 2024-06 or 2024-06-15."),
    "before": (_STRING, "Only photos before this date."),
    "threshold": (_NUMBER, "Only photos with at least this score."),
    "all": (_STRING, "1: every copy of a photo is a hit."),
    "exact": (_STRING, "1: score every photo of a large index."),
    "like": (_IDS, "Photos of the index in the query."),
    "unlike": (_IDS, "Photos of the index in the query, with weight -1."),
    "at": (_IDS, "Position of each uploaded photo among all terms; the default is the last."),
    "weight": ({"type": "array", "items": _NUMBER}, "Weight of each uploaded photo; the default is 1."),
    "id": (_INTEGER, "Key of a photo, which the hits have."),
    "key": (_INTEGER, "Key of a photo, which the hits have."),
    "kind": ({"type": "string", "enum": ["thumbnail", "view"]}, "At most 320 or 1,600 pixels in height."),
    "name": (_STRING, "Name of a run, which /api/runs lists."),
    "v": (_STRING, "Version of the photo, which the hits have: the browser keeps the view."),
    "model": (_STRING, "Name of a captioner, which /api/captioners lists; the default is the first."),
    "dataset": (_STRING, "Name of a dataset, which /api/datasets lists."),
    "split": (_STRING, "Only images of this split."),
    "show": (
        {"type": "string", "enum": list(map(str, Shown)), "default": str(Shown.ALL)},
        "All images, or those without a readable file; a response with checked.done below checked.files is partial: "
        "repeat the request.",
    ),
    "page": ({**_INTEGER, "minimum": 1, "maximum": MAX_PAGE, "default": 1}, f"Page of {PAGE} images."),
    "position": (_INTEGER, "Position of an image in its dataset, which the entries have."),
}
EXAMPLES: dict[str, Any] = {"q": "two dogs", "id": 12, "key": 12, "kind": "thumbnail", "name": "vse-f8k"}
EXAMPLES |= {"dataset": "f8k", "position": 0}
ERRORS = {
    400: "A parameter or a photo is invalid.",
    401: "The token is missing; for servers that other machines can connect to.",
    403: "The request is one of another site, or needs a client on the machine of the server.",
    404: "The index, the dataset, the photo or its file does not exist.",
    413: "The body is too large, or has too many photos.",
    503: "Too many requests are waiting; Retry-After has the seconds.",
}
_WITHOUT_WAITING = ("/api/updates", "/api/openapi.json", "/api/docs")
_FILTERS = ("index", "k", "offset", "in", "after", "before", "threshold", "all", "exact")
_QUERY = ("q", "term", "like", "unlike", *_FILTERS)


@dataclass(frozen=True)
class Operation:
    """An endpoint: what it does, its ``parameters``, the fields of its JSON, and whether its body has photos.

    ``content`` is the type of the response, empty for none. With ``takes_ids`` the parameter ``id`` can be repeated.
    """

    summary: str
    parameters: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    content: str = "application/json"
    takes_photos: bool = False
    takes_ids: bool = False


_RESULT = ("index", "model", "query", "hits", "items", "vanished", "unknown_words", "warnings")
OPERATIONS: dict[tuple[str, str], Operation] = {
    ("/api/status", "get"): Operation("Version, default index", (), ("xmodal", "default", "indexes", "local")),
    ("/api/indexes", "get"): Operation("The indexes", (), ("indexes", "default")),
    ("/api/updates", "get"): Operation("State of --watch", (), ("watching", "watch")),
    ("/api/openapi.json", "get"): Operation("Description of the API"),
    ("/api/docs", "get"): Operation("Description of the API, as a page", content="text/html"),
    ("/api/search", "get"): Operation("Search photos", _QUERY, _RESULT),
    ("/api/search", "post"): Operation(
        "Search with photos in the body", (*_QUERY, "at", "weight"), _RESULT, takes_photos=True
    ),
    ("/api/similar", "get"): Operation("Photos like an indexed one", ("id", *_FILTERS), _RESULT),
    ("/api/embed", "get"): Operation("Vectors of sentences", ("q", "index"), ("model", "vectors")),
    ("/api/embed", "post"): Operation("Vectors of photos", ("index",), ("model", "vectors"), takes_photos=True),
    ("/api/caption", "get"): Operation("Captions", ("id", "index", "model"), ("model", "captions", "warnings")),
    ("/api/captioners", "get"): Operation("The captioners, the default one first", (), ("captioners",)),
    ("/api/datasets", "get"): Operation("Datasets", (), ("datasets",)),
    ("/api/datasets/{dataset}", "get"): Operation(
        "Images of a dataset with their captions",
        ("dataset", "split", "q", "show", "page"),
        ("name", "images", "captions", "splits", "found", "page", "pages", "checked", "entries"),
    ),
    ("/api/datasets/{dataset}/images/{position}/{kind}", "get"): Operation(
        "A view of an image", ("dataset", "position", "kind", "v"), content="image/webp"
    ),
    ("/api/archive", "get"): Operation(
        "Files of photos as a zip", ("id", "index"), content="application/zip", takes_ids=True
    ),
    ("/api/photos/{key}/show", "post"): Operation(
        "Open the folder of a photo in the file manager of this machine", ("key", "index"), content=""
    ),
    ("/api/photos/{key}", "get"): Operation("Facts of a photo", ("key", "index"), ("id", "path", "bytes", "taken")),
    ("/api/photos/{key}/file", "get"): Operation("The file", ("key", "index"), content="application/octet-stream"),
    ("/api/runs", "get"): Operation("Training runs", (), ("runs",)),
    ("/api/runs/{name}", "get"): Operation("A run with its settings and log", ("name",), ("name", "steps", "evals")),
    ("/api/photos/{key}/{kind}", "get"): Operation("A view", ("key", "kind", "index", "v"), content="image/webp"),
}


@cache
def openapi_document() -> dict[str, Any]:
    """The document, as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in OPERATIONS.items():
        paths.setdefault(path, {})[method] = _operation(path, operation)
    problem = {"title": _STRING, "status": _INTEGER, "hint": _STRING}
    return {
        "openapi": "3.1.0",
        "info": {"title": "xmodal", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {"Problem": {"type": "object", "properties": problem, "required": ["title", "status"]}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(path: str, operation: Operation) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": "object", "properties": {name: {} for name in operation.fields}}
    schema = fields if operation.fields else {}
    described: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [_parameter(name, f"{{{name}}}" in path, operation) for name in operation.parameters],
        "responses": {
            "200" if operation.content else "204": {
                "description": "OK",
                "content": {operation.content: {"schema": schema}} if operation.content else {},
            },
            **{str(status): _problem(ERRORS[status]) for status in _errors(path, operation)},
            "default": _problem("An error"),
        },
    }
    if operation.takes_photos:
        photos = {"type": "object", "properties": {"photo": {"type": "array", "items": {}}}}
        content = {"image/*": {"schema": {}}, "multipart/form-data": {"schema": photos}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _errors(path: str, operation: Operation) -> list[int]:
    """The statuses of its errors."""
    statuses = {401, 403}
    if operation.parameters:
        statuses |= {400, 404}
    if operation.takes_photos:
        statuses.add(413)
    if path not in _WITHOUT_WAITING:
        statuses.add(503)
    return sorted(statuses)


def _problem(description: str) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": description, "content": content}


def _parameter(name: str, is_in_path: bool, operation: Operation) -> dict[str, Any]:
    schema, text = PARAMETERS[name]
    if name == "id" and operation.takes_ids:
        schema = _IDS
    position = "path" if is_in_path else "query"
    described = {"name": name, "in": position, "required": is_in_path or name == "id", "schema": schema}
    return described | {"description": text} | ({"example": EXAMPLES[name]} if name in EXAMPLES else {})
