"""Imports packages in a child process, which isolates errors, crashes and hangs.

``python -P -m xmodal_cli.doctor.probe MODULE...`` is the child; it writes one line of JSON per module. The special name
``DEVICE`` stands for facts about the device of torch.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

DEVICE = "device"
SECONDS = 180.0  # time limit of one import; torch takes 30 s on a cold disk and a busy machine


@dataclass(frozen=True)
class Probe:
    """The result of importing ``module``: ``error`` is empty on success; only ``DEVICE`` has ``facts``."""

    module: str
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def probe(modules: Sequence[str], done: Callable[[], None], seconds: float = SECONDS) -> dict[str, Probe]:
    """Import ``modules`` in order, in a new process after each that ends its process; ``done`` is called per module."""
    results: dict[str, Probe] = {}
    while remaining := [m for m in modules if m not in results]:
        for result in _run_child(remaining, seconds):
            results[result.module] = result
            done()
    return results


def _run_child(modules: Sequence[str], seconds: float) -> Iterator[Probe]:
    """Results for the first of ``modules``, in order, at least one."""
    # the child has the import path of this process, without the current folder
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-m", __name__, *modules]
    devnull, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=devnull, stdout=pipe, stderr=devnull, encoding="utf-8"
        )
    except OSError as error:
        yield from (Probe(module, f"Python cannot be started: {error}") for module in modules)
        return
    pending = list(modules)
    timed_out = threading.Event()
    with _killed_on_error(process):
        while line := _read_line(process, seconds, timed_out):
            yield Probe(**json.loads(line))
            pending.pop(0)
    if pending:
        reason = (
            f"the import takes longer than {seconds:.0f} s" if timed_out.is_set() else _exit_reason(process.returncode)
        )
        yield Probe(pending[0], reason)


def _read_line(process: subprocess.Popen[str], seconds: float, timed_out: threading.Event) -> str:
    """The next line, "" after the last; after ``seconds`` the process is killed and ``timed_out`` is set."""
    assert process.stdout is not None

    def stop() -> None:
        timed_out.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        return process.stdout.readline()
    finally:
        timer.cancel()


@contextlib.contextmanager
def _killed_on_error(process: subprocess.Popen[str]) -> Iterator[None]:
    """Wait for the process at the end of the block; kill it on an exception, KeyboardInterrupt included."""
    with process:
        try:
            yield
        except BaseException:
            process.kill()
            raise


def _exit_reason(code: int) -> str:
    """A description of an exit code; negative ones are signals."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the import ends Python with {signal.Signals(-code).name}"
    return f"the import ends Python with exit code {code}"


def _main(modules: Sequence[str]) -> None:
    """The child process; stdout of the imports is redirected to stderr."""
    warnings.simplefilter("ignore")
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as results:
        os.dup2(2, 1)
        for module in modules:
            _write_result(module, results)


def _write_result(module: str, results: IO[str]) -> None:
    result: dict[str, Any] = {"module": module}
    try:
        if module == DEVICE:
            result["facts"] = _device_facts()
        else:
            importlib.import_module(module)
    except (Exception, SystemExit) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        result["error"] = ": ".join([type(error).__name__, *lines[:1]])[:300]
    print(json.dumps(result), file=results, flush=True)


def _device_facts() -> dict[str, Any]:
    import torch

    from xmodal_cli.device import Compute

    compute = Compute().resolve()
    return {
        "device": compute.device,
        "precision": str(compute.dtype).removeprefix("torch."),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "built_for": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "gpus": [_gpu_facts(n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else [],
    }


def _gpu_facts(index: int) -> dict[str, Any]:
    """Name, memory, and the error of a small computation: torch may list a GPU for which it has no kernels."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    facts = {"name": properties.name, "memory": properties.total_memory, "error": ""}
    try:
        ones = torch.ones(8, 8, device=f"cuda:{index}")
        (ones @ ones).sum().item()
    except RuntimeError as error:
        facts["error"] = str(error).splitlines()[0][:200]
    return facts


if __name__ == "__main__":
    _main(sys.argv[1:])
