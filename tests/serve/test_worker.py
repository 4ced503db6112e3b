"""The bounded queue of the server's threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from xmodal_cli.serve.problems import Busy
from xmodal_cli.serve.worker import Worker


def test_calls_run_in_one_thread_in_order():
    worker, threads, order = Worker("test", 10), set(), []

    def call(n: int) -> int:
        threads.add(threading.get_ident())
        order.append(n)
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*(worker.run(lambda n=n: call(n)) for n in range(10)))

    assert asyncio.run(main()) == order == list(range(10))
    assert len(threads) == 1


def test_further_calls_are_refused_and_later_ones_are_not():
    worker, release = Worker("test", 2), threading.Event()

    async def main() -> None:
        waiting = [asyncio.ensure_future(worker.run(release.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await worker.run(release.wait)
        release.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await worker.run(lambda: 4) == 4

    asyncio.run(main())


def test_an_error_of_a_call_is_raised():
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await Worker("test", 1).run(lambda: 1 // 0)

    asyncio.run(main())
