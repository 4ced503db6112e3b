"""``xmodal search --server`` prints what ``xmodal search`` prints, and errors that name the server."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.served_photos import free_port

from xmodal_cli.errors import ConfigError
from xmodal_cli.serve.client import RemoteSearcher


@pytest.fixture(scope="module")
def server(served_home: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port)]
    environment = {**os.environ, "XMODAL_HOME": str(served_home / "home")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


def check_same_results(found: dict, expected: dict) -> None:
    """Equal up to the last bits of scores."""
    for one, other in zip(found.get("hits", []), expected.get("hits", []), strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-6)
    assert json.dumps(found) == json.dumps(expected)


QUERIES = [
    ["a red sky", "-k", "3"],
    ["two dogs", "+snow", "-grass", "beach^0.5", "--json"],
    ["PHOTOS/3.jpg", "--json"],
    ["dogs", "-PHOTOS/3.jpg", "snow", "PHOTOS/4.jpg^0.25", "--json"],
    ["name:1", "--paths"],
    ["dogs", "-name:1", "--in", "PHOTOS", "--threshold", "-1", "--all", "--exact", "-0"],
    ["dogs", "--format", "{score:.4f} {name}"],
    ["xylophonic zzqq", "--json"],
    ["dogs", "--index", "trip", "--after", "2001", "--before", "2100-01"],
]


@pytest.mark.parametrize("arguments", QUERIES, ids=" ".join)
def test_the_output_is_that_of_a_local_search(server, photos, xmodal, arguments):
    words = [word.replace("PHOTOS", str(photos)) for word in arguments]
    local, remote = xmodal("search", *words), xmodal("search", *words, "--server", server)
    assert local.code == remote.code == 0
    assert remote.err == local.err
    if "--json" in words:
        check_same_results(remote.json, local.json)
    else:
        assert remote.out == local.out


def test_lines_of_stdin(server, xmodal, monkeypatch):
    outcomes = []
    for options in ([], ["--server", server]):
        monkeypatch.setattr(sys, "stdin", io.StringIO('a dog\n"open\nsnow -grass\n'))
        outcomes.append(xmodal("search", "--json", "-k", "2", *options))
    assert outcomes[0].code == outcomes[1].code == 1
    for local, remote in zip(*(outcome.out.splitlines() for outcome in outcomes), strict=True):
        check_same_results(json.loads(remote), json.loads(local))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dogs", "--index", "tripp"], "did you mean 'trip'"),
        (["nothing.jpg"], "the image nothing.jpg does not exist"),
        (["dogs", "--after", "yesterday"], "yesterday"),
        (["dogs", "--in", "no/folder"], "the folder no/folder does not exist"),
    ],
)
def test_errors_are_those_of_a_local_search(server, xmodal, arguments, message):
    local, remote = xmodal("search", *arguments), xmodal("search", *arguments, "--server", server)
    assert local.code == remote.code == 1 and message in remote.err
    assert remote.err == local.err


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:PORT", "no server responds at http://127.0.0.1:PORT/: connection refused"),
        ("127.0.0.1:PORT", "no server responds at http://127.0.0.1:PORT/"),
        ("ftp://127.0.0.1", "is not the address of a server"),
        ("http://127.0.0.1:port", "is not an address"),
        ("http://", "is not the address of a server"),
    ],
)
def test_addresses_without_a_server(xmodal, address, message):
    port = str(free_port())
    outcome = xmodal("search", "dogs", "--server", address.replace("PORT", port))
    assert outcome.code == 1 and message.replace("PORT", port) in outcome.err and "hint:" in outcome.err


def test_the_token_of_the_address_is_not_shown():
    searcher = RemoteSearcher("http://user@127.0.0.1:5/?token=secret")
    assert searcher.address == "http://127.0.0.1:5/"
    with pytest.raises(ConfigError, match="nothing to search"):
        searcher.search([])


@pytest.mark.parametrize("from_environment", [False, True])
def test_a_server_with_a_token(served_home, xmodal, monkeypatch, from_environment):
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port), "--host", "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        without, _, token = address.partition("?token=")
        refused = xmodal("search", "dogs", "--server", without)
        assert refused.code == 1 and "this server needs its token" in refused.err
        if from_environment:
            monkeypatch.setenv("XMODAL_TOKEN", token)
        found = xmodal("search", "dogs", "-k", "2", "--paths", "--server", without if from_environment else address)
        process.terminate()
    assert found.out == xmodal("search", "dogs", "-k", "2", "--paths").out
