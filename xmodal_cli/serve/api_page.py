"""The page ``/api/docs``: the description of the API (OpenAPI) as HTML without scripts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any
from urllib.parse import urlencode

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>xmodal API</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
</head>
<body>
<main id="api">
<h1>xmodal HTTP API</h1>
<p>Version {version}. <a href="/api/openapi.json">openapi.json</a> describes the same endpoints for programs (OpenAPI
{openapi}). <a href="/">Search photos</a></p>
<p>Errors are problem JSON (RFC 9457): <code>title</code> is the message, <code>hint</code> what to do next.</p>
<nav aria-label="Endpoints"><ul>
{links}
</ul></nav>
{sections}
</main>
</body>
</html>
"""


def api_page(document: dict[str, Any], address: str, needs_token: bool = False) -> str:
    """The HTML page of an OpenAPI ``document``, with examples for the server at ``address``."""
    paths: dict[str, dict[str, Any]] = document["paths"]
    operations = [(path, method, found[method]) for path, found in paths.items() for method in found]
    links = [
        f'<li><a href="#{_anchor(path, method)}">{_title(path, method)}</a> {escape(operation["summary"])}</li>'
        for path, method, operation in operations
    ]
    sections = [
        _section(path, method, operation, curl_command(path, method, operation, address, needs_token))
        for path, method, operation in operations
    ]
    return _PAGE.format(
        version=escape(document["info"]["version"]),
        openapi=escape(document["openapi"]),
        links="\n".join(links),
        sections="\n".join(sections),
    )


def curl_command(path: str, method: str, operation: dict[str, Any], address: str, needs_token: bool = False) -> str:
    """An example: the required parameters, and others that have an example."""
    used = [parameter for parameter in operation["parameters"] if "example" in parameter]
    for parameter in used:
        path = path.replace(f"{{{parameter['name']}}}", str(parameter["example"]))
    query = urlencode({p["name"]: p["example"] for p in used if p["in"] == "query"})
    parts = ["curl"]
    if needs_token:
        parts += ["-H", '"Authorization: Bearer $XMODAL_TOKEN"']
    if "requestBody" in operation:
        parts += ["--data-binary", "@photo.jpg"]
    elif method != "get":
        parts += ["-X", method.upper()]
    if _is_file(operation):
        parts.append("-OJ" if path.endswith("/file") else "-o " + ("photos.zip" if "archive" in path else "photo.webp"))
    return " ".join([*parts, shlex.quote(address.rstrip("/") + path + (f"?{query}" if query else ""))])


def _section(path: str, method: str, operation: dict[str, Any], command: str) -> str:
    return "\n".join(
        [
            f'<section id="{_anchor(path, method)}">',
            f"<h2>{_title(path, method)}</h2>",
            f"<p>{escape(operation['summary'])}.</p>",
            *_parameters(operation["parameters"]),
            *_body(operation),
            "<h3>Response</h3>",
            f"<p>{_response(operation)}</p>",
            "<h3>Errors</h3>",
            *_table(("Status", "Reason"), _errors(operation)),
            "<h3>Example</h3>",
            f"<pre><code>{escape(command)}</code></pre>",
            "</section>",
        ]
    )


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield "<h3>Parameters</h3>"
    rows = [
        (
            f"<code>{escape(parameter['name'])}</code>" + (" (required)" if parameter["required"] else ""),
            escape(_type(parameter["schema"])),
            escape(f"{parameter['schema'].get('default', '')}"),
            escape(parameter["description"]),
        )
        for parameter in parameters
    ]
    yield from _table(("Name", "Type", "Default", "Description"), rows)


def _type(schema: dict[str, Any]) -> str:
    """The type of a parameter in words, with its bounds."""
    if schema["type"] == "array":
        return f"{_type(schema['items'])}, can be repeated"
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "maximum" in schema:
        return f"{schema['type']}, {schema['minimum']:,} to {schema['maximum']:,}"
    if "maxLength" in schema:
        return f"{schema['type']}, at most {schema['maxLength']:,} characters"
    return str(schema["type"])


def _body(operation: dict[str, Any]) -> Iterator[str]:
    if "requestBody" not in operation:
        return
    yield "<h3>Body</h3>"
    kinds = operation["requestBody"]["content"]
    yield (
        f"<p>The bytes of a photo, or a form with files in the field <code>photo</code> "
        f"({', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}).</p>"
    )


def _response(operation: dict[str, Any]) -> str:
    status, response = next(iter(operation["responses"].items()))
    text = [f"Status {status}"]
    for kind, content in response["content"].items():
        text.append(f"<code>{escape(kind)}</code>")
        if fields := content["schema"].get("properties"):
            text[-1] += f" with {', '.join(f'<code>{escape(name)}</code>' for name in fields)}"
    return ", ".join(text) + "."


def _errors(operation: dict[str, Any]) -> list[tuple[str, str]]:
    failed = list(operation["responses"].items())[1:]
    return [(status, escape(response["description"])) for status, response in failed if status != "default"]


def _is_file(operation: dict[str, Any]) -> bool:
    _, response = next(iter(operation["responses"].items()))
    return any(not kind.startswith(("application/json", "text/")) for kind in response["content"])


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """``rows`` are HTML."""
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    yield f"<table><thead><tr>{head}</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</tbody></table>"


def _title(path: str, method: str) -> str:
    return f"{method.upper()} {escape(path)}"


def _anchor(path: str, method: str) -> str:
    words = (part.strip("{}") for part in path.strip("/").split("/"))
    return "-".join([method, *words])
