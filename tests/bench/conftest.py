"""What benchmarks share: a table that is printed at the end, and how long something takes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
import torch
from helpers.bench_device import DEVICE, synchronize

_rows: list[tuple[str, str]] = []


@pytest.fixture
def report() -> Callable[[str, str], None]:
    """``report(what, results)`` adds a line to the table."""
    return lambda what, results: _rows.append((what, results))


@pytest.fixture
def seconds() -> Callable[[Callable[[], object]], float]:
    """How long a call takes, the device's queue included."""

    def measure(call: Callable[[], object]) -> float:
        synchronize()
        started = time.perf_counter()
        call()
        synchronize()
        return time.perf_counter() - started

    return measure


@pytest.fixture
def device() -> str:
    return DEVICE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _rows:
        return
    where = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    terminalreporter.write_sep("=", f"benchmarks on {where}{load}")
    for what, results in _rows:
        terminalreporter.write_line(f"{what:<52} {results}")
