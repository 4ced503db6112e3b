"""A batch size that halves when a batch does not fit in memory, so that the computation continues."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

from xmodal_cli.errors import is_out_of_memory

T = TypeVar("T")


class BatchSizeWarning(UserWarning):
    """A batch did not fit in memory, and smaller ones are used."""


class BatchSize:
    """The largest batch to compute at once, in ``unit`` (plural, for the warning); threads may share it."""

    def __init__(self, size: int, unit: str) -> None:
        self.size, self._unit = max(1, size), unit

    def run(self, work: Callable[[int, int], T], count: int) -> Iterator[T]:
        """Yield ``work(start, end)`` of consecutive ranges of ``count`` rows, each of at most ``size`` rows.

        After a MemoryError, or an error of torch or onnxruntime that means the same, the size is halved and the range
        is computed again. The error of a single row is raised as it is.
        """
        start = failed = 0
        while start < count:
            end = min(count, start + self.size)
            try:
                result = work(start, end)
            except Exception as error:
                if end - start == 1 or not is_out_of_memory(error):
                    raise
            else:
                if failed:
                    self._warn(failed)
                    failed = 0
                yield result
                start = end
                continue
            failed = failed or end - start
            self.size = min(self.size, (end - start) // 2)  # another thread may have halved it already
            _free_memory()  # after the except clause, whose traceback keeps tensors alive

    def _warn(self, failed: int) -> None:
        text = f"{failed:,} {self._unit} at once do not fit in memory; continuing with {self.size:,}"
        warnings.warn(text, BatchSizeWarning, stacklevel=3)


def _free_memory() -> None:
    """Return memory that torch keeps for later tensors of a GPU, which may have the wrong sizes."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
