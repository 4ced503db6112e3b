"""Requests of other sites and hosts are refused; every response has the security headers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from xmodal_cli.serve.application import create_app
from xmodal_cli.serve.guard import POLICY
from xmodal_cli.serve.settings import ServeSettings

TOKEN = "s3cret-token"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7878", 200),
        ("localhost:7878", 200),
        ("LOCALHOST:7878", 200),
        ("[::1]:7878", 200),
        ("localhost", 200),
        ("localhost:80", 403),
        ("attacker.example:7878", 403),
        ("127.0.0.1.attacker.example:7878", 403),
        ("localhost:7878@attacker.example", 403),
        ("", 403),
    ],
)
def test_only_this_host(client, host, status):
    assert client.get("/api/status", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:7878"}, 200),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link to the page
    ],
)
def test_requests_of_other_sites_are_refused(client, headers, status):
    for path in ("/api/search", "/api/photos/1/thumbnail"):
        assert client.get(path, headers=headers).status_code == status
    assert client.post("/api/search", headers=headers, content=b"x").status_code == (403 if status == 403 else 400)


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/status", "/api/photos/1/thumbnail", "/missing"])
def test_all_responses_have_the_security_headers(client, path):
    headers = client.get(path).headers
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_the_policy_allows_no_inline_scripts_or_foreign_hosts(client):
    assert "unsafe" not in POLICY and "http" not in POLICY and "*" not in POLICY
    page = client.get("/").text
    directives = dict(part.strip().split(" ", 1) for part in POLICY.split(";"))
    assert directives["form-action"] == "'self'"  # the search in captions is a form
    assert {directives[name] for name in ("default-src", "base-uri", "frame-ancestors")} == {"'none'"}
    assert "<script>" not in page and " onclick" not in page and "style=" not in page


def test_a_token_is_required_beyond_this_machine():
    app = create_app(ServeSettings(host="0.0.0.0", token=TOKEN))
    with TestClient(app, base_url="http://photos.example:7878") as client:
        assert client.get("/").status_code == client.get("/api/status").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get(f"/api/status?token={TOKEN}").status_code == 401  # only the page takes it from the address
        assert client.get("/api/status", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/api/status", headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
        page = client.get(f"/?token={TOKEN}")
        assert page.status_code == 200
        assert "HttpOnly" in page.headers["set-cookie"] and "SameSite=Strict" in page.headers["set-cookie"]
        assert client.get("/api/status").status_code == 200  # the cookie
    app = create_app(ServeSettings(host="0.0.0.0", token=TOKEN))
    with TestClient(app, base_url="http://photos.example:7878", cookies={"xmodal_token": "no"}) as client:
        assert client.get("/api/status").status_code == 401


def test_no_host_is_allowed_beyond_this_machine_without_a_token():
    with TestClient(create_app(ServeSettings(host="0.0.0.0")), base_url="http://photos.example:7878") as client:
        assert client.get("/api/status").status_code == 403
