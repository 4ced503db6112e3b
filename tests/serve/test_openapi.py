"""The description of the API has all endpoints, and their responses have the fields that it names."""

from __future__ import annotations

import re

import pytest

from xmodal_cli.serve.application import create_app
from xmodal_cli.serve.openapi import EXAMPLES, OPERATIONS, PARAMETERS, openapi_document
from xmodal_cli.serve.settings import ServeSettings


def test_all_endpoints_are_described(client):
    found = {
        (re.sub(r":\w+", "", route.path), method.lower())
        for route in create_app(ServeSettings()).routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD" and route.path.startswith("/api/")
    }
    assert found == set(OPERATIONS)
    assert client.get("/api/openapi.json").json() == openapi_document()
    assert {name for operation in OPERATIONS.values() for name in operation.parameters} == set(PARAMETERS)


@pytest.mark.parametrize(("path", "method"), [key for key, operation in OPERATIONS.items() if operation.fields])
def test_responses_have_the_described_fields(client, photos, path, method):
    key = client.get("/api/search").json()["hits"][0]["id"]
    sent = {"content": (photos / "1.jpg").read_bytes()} if method == "post" else {}
    params = {
        name: value for name, value in {"id": key, "q": "dogs"}.items() if name in OPERATIONS[path, method].parameters
    }
    address = path
    for name, example in {**EXAMPLES, "key": key}.items():
        address = address.replace(f"{{{name}}}", str(example))
    response = client.request(method, address, params=params, **sent)
    assert response.status_code == 200, response.text
    assert set(OPERATIONS[path, method].fields) <= set(response.json())
