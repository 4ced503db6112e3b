"""``xmodal serve`` as a process: the address, errors, and the end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from helpers.served_photos import free_port

from xmodal_cli.serve.server import address_of, new_token
from xmodal_cli.serve.settings import ServeSettings


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(stop):
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving at http://127.0.0.1:{port}/\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/search?q=dogs&k=1") as response:
            assert b'"rank":1' in response.read()
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode in (130, 143, -stop, 0)  # 0: background jobs of a shell ignore SIGINT


def test_a_port_in_use_is_an_error(xmodal):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = xmodal("serve", "--port", port)
    assert outcome.code == 1
    assert f"the port {port} is in use" in outcome.err and f"--port {port + 1}" in outcome.err


def test_an_unknown_index_is_an_error(xmodal):
    outcome = xmodal("serve", "--index", "tripp")
    assert outcome.code == 1 and "did you mean 'trip'" in outcome.err


def test_tokens_are_in_the_address():
    assert len({new_token() for _ in range(50)}) == 50
    assert address_of(ServeSettings(host="::1", port=5)) == "http://[::1]:5/"
    assert address_of(ServeSettings(host="0.0.0.0", port=5, token="t")) == "http://0.0.0.0:5/?token=t"
