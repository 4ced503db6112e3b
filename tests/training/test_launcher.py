"""``xmodal train --nproc``: one run with the files and metrics of one process, exact resumption, and errors."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")

CAPTIONER = (
    *("features.kind=global", "features.backbone=efficientnet-lite2", "model.embed_dim=32", "data.min_word_count=1"),
    *("training.batch_size=64", "training.epochs=3", "training.tensorboard=false", "decoding.max_length=10"),
)
NO_DROPOUT = [f"--set=model.{part}_encoder.args.dropout=0" for part in ("image", "text")]


def _receive_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore it


def start(arguments: list[object], home: Path, *options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "XMODAL_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "xmodal_cli", *map(str, arguments), *map(str, options)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_receive_interrupts,  # noqa: PLW1509 - no other thread runs then
    )


def train(arguments: list[object], home: Path, *options: object) -> tuple[int, str, str]:
    with start(arguments, home, *options) as process:
        out, err = process.communicate(timeout=500)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def arguments(planted: Path, small_settings: list[str]) -> list[object]:
    return [
        *("train", "--model", "vse", "--data", planted, "--device", "cpu", "--precision", "fp32"),
        *small_settings,
        *NO_DROPOUT,
    ]


def children_of(pid: int) -> list[int]:
    """The process IDs of its child processes, on Linux."""
    children = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int(file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            children += [int(file.parent.name)] if parent == pid else []
    return children


def wait_for_state(run: Path) -> None:
    deadline = time.monotonic() + 300
    while not (run / "last" / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def by_two(arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run by two processes, its standard output and its standard error."""
    folder = tmp_path_factory.mktemp("by_two")
    code, out, err = train([*arguments, "--out", folder / "run", "--json"], folder / "home", "--nproc", 2)
    assert code == 0, err
    return folder / "run", out, err


def test_a_run_by_two_processes_has_the_files_and_metrics_of_one(
    arguments: list[object], by_two: tuple[Path, str, str], home: Path, tmp_path: Path
) -> None:
    two, out, err = by_two
    runs = [tmp_path / "one", two]
    assert json.loads(out)["run"] == str(two)  # printed once
    assert err.count("val rsum") == 4
    code, _, err = train([*arguments, "--out", runs[0]], home)
    assert code == 0, err
    assert sorted(p.name for p in runs[0].iterdir()) == sorted(p.name for p in runs[1].iterdir())
    first, second = (metrics(run)["history"][0] for run in runs)
    assert second == pytest.approx(first, abs=5.1)  # rounding changes the rank of one or two of 40 images


def test_a_killed_run_is_resumed_with_the_same_metrics(
    arguments: list[object], by_two: tuple[Path, str, str], home: Path, tmp_path: Path
) -> None:
    kill_and_resume(arguments, by_two[0], home, tmp_path)


@pytest.mark.faults
def test_a_killed_captioner_is_resumed_with_the_same_metrics(planted: Path, home: Path, tmp_path: Path) -> None:
    settings = [f"--set={setting}" for setting in CAPTIONER]
    arguments = ["train", "--model", "transformer", "--data", planted, "--device", "cpu", *settings]
    code, _, err = train([*arguments, "--out", tmp_path / "undisturbed"], home, "--nproc", 2)
    assert code == 0, err
    kill_and_resume(arguments, tmp_path / "undisturbed", home, tmp_path)


def kill_and_resume(arguments: list[object], undisturbed: Path, home: Path, tmp_path: Path) -> None:
    """One process is killed: the others end with an error; resuming gives the undisturbed run."""
    killed = tmp_path / "killed"
    process = start([*arguments, "--out", killed], home, "--nproc", 2)
    wait_for_state(killed)
    os.kill(max(children_of(process.pid)), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert "Traceback" not in err
    is_interrupted = (killed / "metrics.json").exists()  # the other process had the time to end in order
    if not is_interrupted or metrics(killed)["epochs"] < metrics(undisturbed)["epochs"]:
        code, _, err = train([*arguments, "--out", killed, "--resume"], home, "--nproc", 2)
        assert code == 0, err
    assert metrics(killed) == metrics(undisturbed)


def test_ctrl_c_leaves_a_usable_run(arguments: list[object], home: Path, tmp_path: Path) -> None:
    process = start([*arguments, "--set", "training.epochs=500", "--out", tmp_path / "run"], home, "--nproc", 2)
    wait_for_state(tmp_path / "run")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    lines = [line for line in err.splitlines() if line.startswith("interrupted")]
    assert "error" not in err and len(lines) == 1 and "--resume to continue" in lines[0], err
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"}])
def test_an_incomplete_environment_of_torchrun_is_an_error(
    xmodal: Any, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = xmodal("train", "--model", "vse", "--data", planted, "--out", tmp_path / "run")
    assert done.code == 1 and "WORLD_SIZE is set" in done.err


def test_less_than_one_process_is_refused_at_once(xmodal: Any, planted: Path) -> None:
    done = xmodal("train", "--model", "vse", "--data", planted, "--nproc", "0")
    assert (done.code, "--nproc must be at least 1, not 0" in done.err) == (1, True), done.err


def test_an_error_is_reported_once(arguments: list[object], home: Path, tmp_path: Path) -> None:
    code, out, err = train([*arguments, "--set", "data.val_split=nothing", "--out", tmp_path / "r"], home, "--nproc", 2)
    assert (code, out) == (1, "")
    assert err.count("nothing") == 1 and "Traceback" not in err, err
