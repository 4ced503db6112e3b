"""Training runs by several processes that are started once for all of them, and the same runs by this process.

``python -m helpers.process_runs FILE`` is one of the processes; FILE has the runs as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Run:
    """A training: its preset, its settings, its data, and settings with which it is resumed at the end."""

    preset: str
    settings: Sequence[str]
    data: str
    resumed_with: Sequence[str] = ()

    def train(self, folder: Path, ports: Sequence[int] = (0, 0)) -> None:
        """Train in ``folder``, and resume; the processes of each training meet at another port."""
        from xmodal_cli.config import load_config
        from xmodal_cli.recipes.train import train_model

        for port, more in zip(ports, ((), self.resumed_with) if self.resumed_with else ((),), strict=False):
            settings = ("training.device=cpu", "training.tensorboard=false", *self.settings, *more)
            with (
                mock.patch("xmodal_cli.recipes.train.draw_curves"),  # it takes longer than the training
                mock.patch.dict(os.environ, {"MASTER_PORT": str(port)}),
            ):
                train_model(load_config(self.preset, list(settings)), self.data, folder, resume=bool(more))


def train_by(num: int, runs: Mapping[str, Run], folder: Path) -> None:
    """Train all ``runs`` by ``num`` processes in ``folder/NUM/NAME``."""
    if num == 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for name, run in runs.items():
            run.train(folder / "1" / name)
        torch.set_num_threads(threads)
        return
    folder.mkdir(parents=True, exist_ok=True)
    file, ports = folder / f"runs-{num}.json", iter(_free_ports(2 * len(runs)))
    entries = [(str(folder / str(num) / name), (next(ports), next(ports)), asdict(run)) for name, run in runs.items()]
    file.write_text(json.dumps(entries), encoding="utf-8")
    paths = os.pathsep.join(map(str, (Path(__file__).parents[1], Path(__file__).parents[2])))
    processes, logs = [], [folder / f"process-{rank}.log" for rank in range(num)]
    for rank, log in enumerate(logs):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num), "MASTER_ADDR": "localhost"}
        environment = {**os.environ, **ranks, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        command = [sys.executable, "-m", "helpers.process_runs", str(file)]
        with log.open("w") as opened:
            processes.append(subprocess.Popen(command, env=environment, stdout=opened, stderr=opened))
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            for process in processes:
                process.kill()  # they would wait for the one that has failed
        time.sleep(0.05)
    errors = [log.read_text(encoding="utf-8") for log in logs]
    assert not any(process.returncode for process in processes), "\n".join(errors)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def gradients(run: Path) -> dict[str, Tensor]:
    """The gradients of the first step by Adam: its first moment is 0.1 times the gradient. Run with one step."""
    state = load_file(run / "last" / "state.safetensors")
    return {name: value / 0.1 for name, value in state.items() if name.endswith("exp_avg")}


def largest_difference(one: Path, several: Path) -> float:
    """Of a gradient of two runs of one step, relative to the largest gradient where that is above 1."""
    expected, actual = gradients(one), gradients(several)
    assert expected.keys() == actual.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    assert largest > 0
    difference = max((actual[name] - value).abs().max().item() for name, value in expected.items())
    return difference / max(1.0, largest)


def _main(file: str) -> None:
    for folder, ports, run in json.loads(Path(file).read_text(encoding="utf-8")):
        Run(**run).train(Path(folder), ports)
        assert _threads_of_gloo_end()  # they would abort a process that ends while they release tensors


def _threads_of_gloo_end() -> bool:
    """Whether no thread of a process group remains; Linux lists threads for a moment after they have ended."""
    deadline = time.monotonic() + 10
    while any("gloo" in name for name in _thread_names()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _thread_names() -> Iterator[str]:
    for file in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            yield file.read_text(encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1])
