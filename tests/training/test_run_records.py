"""The record of a run in its files: state, epochs, the best metrics, and errors of damaged ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers.written_runs import write_run

from xmodal_cli.errors import MissingData
from xmodal_cli.file_lock import folder_is_locked, folder_lock
from xmodal_cli.training.run_records import find_runs, read_run


def test_a_finished_run(tmp_path):
    run = read_run(write_run(tmp_path / "a", 4, best_epoch=3))
    assert (run.name, run.state, run.preset, run.data) == ("a", "finished", "vse", "f8k")
    assert (run.epoch, run.epochs, run.best_epoch, run.best) == (4, 4, 3, {"rsum": 103.0})
    assert [record["loss"] for record in run.steps] == [2.0, 1.0, 2.0 / 3, 0.5]
    assert [record["rsum"] for record in run.evals] == [101.0, 102.0, 103.0, 104.0]
    assert run.settings["loss.name"] == "triplet" and not run.has_model and run.error == ""


@pytest.mark.parametrize(
    ("epochs", "best_epoch", "patience", "state"),
    [(2, 0, 0, "stopped"), (2, 2, 0, "stopped"), (3, 1, 2, "finished"), (3, 2, 2, "stopped"), (4, 4, 0, "finished")],
)
def test_a_run_that_ended_early(tmp_path, epochs, best_epoch, patience, state):
    assert read_run(write_run(tmp_path / "a", epochs, best_epoch, patience)).state == state


@pytest.mark.parametrize(("patience", "state"), [(2, "finished"), (3, "stopped")])
def test_patience_counts_evaluations(tmp_path, patience, state):
    """Two evaluations in four epochs after the best one."""
    folder = write_run(tmp_path / "a", 3, best_epoch=1, patience=patience)
    file = folder / "config.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("epochs = 4", "epochs = 40"), encoding="utf-8")
    text = (folder / "metrics.json").read_text(encoding="utf-8").replace('"epochs": 3', '"epochs": 5')
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    assert read_run(folder).state == state


def test_a_run_is_in_training_while_its_folder_is_locked(tmp_path):
    folder = write_run(tmp_path / "a", 1)
    with folder_lock(folder, "the run"):
        assert read_run(folder).state == "training"
    assert read_run(folder).state == "stopped"


def test_the_lock_of_a_killed_process_is_none(tmp_path):
    folder = write_run(tmp_path / "a", 1)
    code = (
        "import os, sys; from pathlib import Path; from xmodal_cli.file_lock import folder_lock\n"
        "with folder_lock(Path(sys.argv[1]), 'the run'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=False, env={**os.environ})
    assert (folder / ".lock").read_text(encoding="utf-8").startswith("process ")
    assert not folder_is_locked(folder) and read_run(folder).state == "stopped"
    (folder / ".lock").write_text("process 1 on another-machine", encoding="utf-8")
    assert folder_is_locked(folder)


def test_a_run_that_writes_at_this_moment(tmp_path):
    """A line that is not complete yet is not read."""
    folder = write_run(tmp_path / "a", 2)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"event": "step", "step": 21, "ep')
    assert [record["step"] for record in read_run(folder).steps] == [10, 20]


@pytest.mark.parametrize("file", ["config.toml", "metrics.json"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b"[", b"3"])
def test_a_damaged_run_has_an_error(tmp_path, file, content):
    folder = write_run(tmp_path / "a", 4, best_epoch=3)
    (folder / file).write_bytes(content)
    run = read_run(folder)
    assert str(folder / file) in run.error and run.name == "a"


@pytest.mark.parametrize("section", ["training = 3", "[training]\nepochs = 'many'", "data = [1]"])
def test_settings_of_the_wrong_type(tmp_path, section):
    folder = write_run(tmp_path / "a", 4, best_epoch=3)
    (folder / "config.toml").write_text(section, encoding="utf-8")
    assert read_run(folder).epoch == 4


def test_runs_of_a_folder(tmp_path):
    for name in ("b", "a"):
        write_run(tmp_path / "runs" / name, 1)
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "file").write_text("x", encoding="utf-8")
    assert [run.name for run in find_runs(tmp_path / "runs")] == ["a", "b"]
    assert [run.name for run in find_runs(tmp_path / "runs" / "a")] == ["a"]
    assert find_runs(tmp_path / "absent") == []
    with pytest.raises(MissingData, match="contains no training run"):
        read_run(tmp_path / "runs" / "other")
