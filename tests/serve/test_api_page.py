"""The page of the API describes every endpoint; its examples can be run."""

from __future__ import annotations

import re
import shlex
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from xmodal_cli.serve import api
from xmodal_cli.serve.api_page import api_page
from xmodal_cli.serve.application import create_app
from xmodal_cli.serve.openapi import OPERATIONS, openapi_document
from xmodal_cli.serve.settings import ServeSettings

VOID = ("meta", "link")


class CheckedParser(HTMLParser):
    """Fails for tags that are not closed, and collects the names of tags, and the targets and ids of links."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.tags = list[str](), set[str]()
        self.targets, self.ids = set[str](), set[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.opened.append(tag)
        if (target := found.get("href") or "").startswith("#"):
            self.targets.add(target[1:])
        if "id" in found:
            assert found["id"] not in self.ids
            self.ids.add(found["id"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def sections(text: str) -> dict[tuple[str, str], str]:
    """(path, method) -> HTML."""
    found = re.findall(r"<section.*?<h2>(\w+) (\S+)</h2>(.*?)</section>", text, re.DOTALL)
    return {(unescape(path), method.lower()): content for method, path, content in found}


def test_every_endpoint_is_on_the_page(client: TestClient) -> None:
    response = client.get("/api/docs")
    assert response.headers["content-type"].startswith("text/html")
    parser = CheckedParser()
    parser.feed(response.text)
    assert parser.opened == [] and parser.targets <= parser.ids
    assert not parser.tags & {"script", "style"}  # the policy of the page refuses both
    found = sections(response.text)
    assert set(found) == set(OPERATIONS)
    for (path, method), content in found.items():
        described = openapi_document()["paths"][path][method]
        for parameter in described["parameters"]:
            assert f"<code>{parameter['name']}</code>" in content and parameter["description"] in unescape(content)
        errors = set(described["responses"]) - {"200", "204", "default"}
        assert errors and all(f"<td>{status}</td>" in content for status in errors)
    assert "integer, 1 to 2,000" in found["/api/search", "get"] and "<td>60</td>" in found["/api/search", "get"]


def test_the_examples_can_be_run(client: TestClient, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "show_in_folder", lambda path: None)
    monkeypatch.setattr(api.Api, "_is_local", lambda self, request: True)
    key = client.get("/api/search").json()["hits"][0]["id"]
    for (path, method), content in sections(client.get("/api/docs").text).items():
        match = re.search(r"<pre><code>(.*?)</code></pre>", content)
        assert match is not None
        command, *arguments = shlex.split(unescape(match[1]))
        assert command == "curl"
        address = urlsplit(arguments[-1])
        target = re.sub(r"\b12\b", str(key), f"{address.path}?{address.query}")
        body = (photos / "1.jpg").read_bytes() if "--data-binary" in arguments else None
        assert ("--data-binary" in arguments or "-X" in arguments) == (method == "post")
        assert client.request(method, target, content=body).status_code in (200, 204), (path, method)


def test_text_in_the_address_is_escaped_and_a_token_is_in_the_examples() -> None:
    text = api_page(openapi_document(), "http://<b>$(id)/", needs_token=True)
    assert "<b>" not in text and "'http://<b>$(id)/api/status'" in unescape(text)
    assert "Authorization: Bearer $XMODAL_TOKEN" in text
    with TestClient(create_app(ServeSettings(host="0.0.0.0", token="secret")), base_url="http://server:7878") as client:
        assert client.get("/api/docs").status_code == 401
        found = client.get("/api/docs", headers={"Authorization": "Bearer secret"})
        assert "http://server:7878/api/status" in found.text and "secret" not in found.text
