"""A batch that does not fit in memory is computed in halves."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest

from xmodal_cli.batch_size import BatchSize, BatchSizeWarning

Work = Callable[[int, int], list[int]]


class OnnxError(Exception):
    """As those of onnxruntime: not a RuntimeError."""

    __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


def fitting(limit: int, error: Exception, calls: list[tuple[int, int]]) -> Work:
    """Work that fails with ``error`` for more than ``limit`` rows."""

    def work(start: int, end: int) -> list[int]:
        calls.append((start, end))
        if end - start > limit:
            raise error
        return list(range(start, end))

    return work


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes."
        ),
        OnnxError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
        OnnxError("Failed to allocate memory for requested buffer of size 48169246720"),
    ],
)
def test_every_row_is_computed_once_in_order(error: Exception) -> None:
    calls: list[tuple[int, int]] = []
    size = BatchSize(8, "images")
    with pytest.warns(BatchSizeWarning, match="8 images at once do not fit in memory; continuing with 2"):
        parts = list(size.run(fitting(3, error, calls), 19))
    assert [row for part in parts for row in part] == list(range(19))
    assert calls[:3] == [(0, 8), (0, 4), (0, 2)]
    assert {end - start for start, end in calls[2:-1]} == {2}  # what did not fit is not tried again
    assert size.size == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(size.run(fitting(3, error, calls), 3)) == [[0, 1], [2]]


def test_a_single_row_that_does_not_fit_raises() -> None:
    with pytest.raises(MemoryError):
        list(BatchSize(4, "images").run(fitting(0, MemoryError(), []), 4))


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("shapes differ"), OnnxError("invalid graph")]
)
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    calls: list[tuple[int, int]] = []
    with pytest.raises(type(error)):
        list(BatchSize(4, "images").run(fitting(0, error, calls), 4))
    assert calls == [(0, 4)]


def test_nothing_to_compute() -> None:
    assert list(BatchSize(0, "images").run(fitting(0, MemoryError(), []), 0)) == []
