"""Imports packages in a child process, where a broken one can do no harm: not by an error, a crash or a hang.

``python -P -m xmodal_cli.doctor.probe MODULE...`` is the child; it writes one line of JSON for each module.
 The module ``DEVICE`` is no module but the question what torch computes on.
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
SECONDS = 180.0  # for one import; on a cold disk and a busy machine torch alone takes half a minute


@dataclass(frozen=True)
class Probe:
    """How the import of ``module`` went: ``error`` is empty or says why not; ``facts`` are those of ``DEVICE``."""

    module: str
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def probe(modules: Sequence[str], done: Callable[[], None], seconds: float = SECONDS) -> dict[str, Probe]:
    """Import ``modules`` one after the other; after one that takes its process along, the next starts anew."""
    found: dict[str, Probe] = {}
    while rest := [m for m in modules if m not in found]:
        for answer in _child(rest, seconds):
            found[answer.module] = answer
            done()
    return found


def _child(modules: Sequence[str], seconds: float) -> Iterator[Probe]:
    """Answers for the first of ``modules``, one at least, in order."""
    # the child sees what this process sees, and not what happens to lie in the current folder
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-m", __name__, *modules]
    nowhere, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, env=environment, stdin=nowhere, stdout=pipe, stderr=nowhere, encoding="utf-8"
        )
    except OSError as error:
        yield from (Probe(module, f"Python cannot be started: {error}") for module in modules)
        return
    waiting = list(modules)
    late = threading.Event()
    with _ended(process):
        while line := _line(process, seconds, late):
            yield Probe(**json.loads(line))
            waiting.pop(0)
    if waiting:
        yield Probe(waiting[0], f"it takes more than {seconds:.0f} s" if late.is_set() else _end(process.returncode))


def _line(process: subprocess.Popen[str], seconds: float, late: threading.Event) -> str:
    """The next answer, "" after the last; a process that takes more than ``seconds`` over it is ended, and ``late``."""
    assert process.stdout is not None

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        return process.stdout.readline()
    finally:
        timer.cancel()


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leaves no process behind, also where this one is interrupted."""
    with process:
        try:
            yield
        except BaseException:
            process.kill()
            raise


def _end(code: int) -> str:
    """What the end of a child says that did not come to its own."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it ends Python with {signal.Signals(-code).name}"
    return f"it ends Python with exit code {code}"


def _main(modules: Sequence[str]) -> None:
    """The child: what imports write on stdout goes elsewhere."""
    warnings.simplefilter("ignore")
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for module in modules:
            _answer(module, answers)


def _answer(module: str, answers: IO[str]) -> None:
    answer: dict[str, Any] = {"module": module}
    try:
        if module == DEVICE:
            answer["facts"] = _device_facts()
        else:
            importlib.import_module(module)
    except (Exception, SystemExit) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        answer["error"] = ": ".join([type(error).__name__, *lines[:1]])[:300]
    print(json.dumps(answer), file=answers, flush=True)


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


def _gpu_facts(number: int) -> dict[str, Any]:
    """Name, memory, and why it does not compute, if so: a driver that answers may still lack the kernels."""
    import torch

    properties = torch.cuda.get_device_properties(number)
    facts = {"name": properties.name, "memory": properties.total_memory, "error": ""}
    try:
        one = torch.ones(8, 8, device=f"cuda:{number}")
        (one @ one).sum().item()
    except RuntimeError as error:
        facts["error"] = str(error).splitlines()[0][:200]
    return facts


if __name__ == "__main__":
    _main(sys.argv[1:])
