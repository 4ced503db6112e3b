"""The page ``/api/docs``: the description of the API (OpenAPI) as HTML without scripts."""

from __future__ import annotations

import shlex
from typing import Any
from urllib.parse import urlencode

from xmodal_cli.reports.pages import render


def api_page(document: dict[str, Any], address: str, needs_token: bool = False) -> str:
    """The HTML page of an OpenAPI ``document``, with examples for the server at ``address``."""
    operations = [
        _operation(path, method, operation, curl_command(path, method, operation, address, needs_token))
        for path, found in document["paths"].items()
        for method, operation in found.items()
    ]
    context = {"api_version": document["info"]["version"], "openapi": document["openapi"], "operations": operations}
    return render("api", context)


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


def _operation(path: str, method: str, operation: dict[str, Any], command: str) -> dict[str, Any]:
    """What the template ``api.html.jinja`` shows of an endpoint."""
    (status, response), *failed = operation["responses"].items()
    return {
        "anchor": "-".join([method, *(part.strip("{}") for part in path.strip("/").split("/"))]),
        "title": f"{method.upper()} {path}",
        "summary": operation["summary"],
        "parameters": [_parameter(parameter) for parameter in operation["parameters"]],
        "body_kinds": list(operation.get("requestBody", {}).get("content", ())),
        "status": status,
        "contents": [(kind, list(c["schema"].get("properties", ()))) for kind, c in response["content"].items()],
        "errors": [(code, error["description"]) for code, error in failed if code != "default"],
        "command": command,
    }


def _parameter(parameter: dict[str, Any]) -> dict[str, Any]:
    schema = parameter["schema"]
    shown = {name: parameter[name] for name in ("name", "required", "description")}
    return {**shown, "type": _type(schema), "default": schema.get("default", "")}


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


def _is_file(operation: dict[str, Any]) -> bool:
    _, response = next(iter(operation["responses"].items()))
    return any(not kind.startswith(("application/json", "text/")) for kind in response["content"])
