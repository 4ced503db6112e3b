"""Work of a request whose client has gone is not started."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.requests import Request

from xmodal_cli.serve.disconnects import while_connected
from xmodal_cli.serve.problems import Disconnected
from xmodal_cli.serve.worker import Worker


def request_of(*messages: str) -> Request:
    """A request that receives these messages, and nothing after them."""
    left = [*messages]

    async def receive() -> dict[str, object]:
        if left:
            return {"type": left.pop(0)}
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "headers": []}, receive)


def test_work_that_waits_is_canceled():
    worker, started, release, done = Worker("test", 9), threading.Event(), threading.Event(), []

    def busy() -> bool:
        started.set()
        return release.wait()

    async def main() -> None:
        first = asyncio.ensure_future(while_connected(request_of("http.request"), worker.run(busy)))
        while not started.is_set():
            await asyncio.sleep(0.001)
        with pytest.raises(Disconnected):
            await while_connected(request_of("http.request", "http.disconnect"), worker.run(lambda: done.append(1)))
        release.set()
        assert await first
        assert await while_connected(request_of("http.request"), worker.run(lambda: 5)) == 5

    asyncio.run(main())
    assert done == []


def test_errors_of_work_are_raised():
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await while_connected(request_of(), Worker("test", 1).run(lambda: 1 // 0))

    asyncio.run(main())
