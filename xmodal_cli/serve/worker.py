"""One thread for work that is not safe to run in several, with a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from xmodal_cli.serve.problems import Busy

Result = TypeVar("Result")


class Worker:
    """Runs calls in ``num_threads`` threads; at most ``max_waiting`` wait. Use it from one event loop."""

    def __init__(self, name: str, max_waiting: int, num_threads: int = 1) -> None:
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        self._max_pending, self._num_pending = max_waiting + num_threads, 0

    async def run(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``. Raises Busy, and what ``call`` raises; a canceled call that waits is not run."""
        if self._num_pending >= self._max_pending:
            raise Busy("the server is busy", "try again in a moment")
        self._num_pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._num_pending -= 1

    def close(self) -> None:
        """Cancel the calls that wait."""
        self._executor.shutdown(wait=False, cancel_futures=True)
