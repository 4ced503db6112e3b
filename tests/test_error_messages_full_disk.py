"""Error messages on full disks and for paths that cannot be written; existing files are kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.error_checks import SET, Run, check_error, files
from PIL import Image

pytestmark = pytest.mark.usefixtures("mean_color_backbone", "no_temporary_files")


@pytest.fixture
def disk_full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``disk_full(n)``: the disk is full after ``n`` flushed files."""
    real = os.fsync

    def fill(after: int) -> None:
        left = iter(range(after))

        def fsync(file: int) -> None:
            if stat.S_ISREG(os.fstat(file).st_mode) and next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(file)

        monkeypatch.setattr(os, "fsync", fsync)

    return fill


@pytest.fixture
def small_files_only() -> Iterator[Callable[[int], None]]:
    """``small_files_only(size)``: the system does not write files of more than ``size`` bytes."""
    resource = pytest.importorskip("resource", reason="needs the file size limits of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("after", range(6))
def test_train_on_a_full_disk(
    xmodal: Run, tmp_path: Path, vector_data: Path, disk_full: Callable[[int], None], after: int
) -> None:
    """The disk is full at the config, log, model, state, metrics or curves: reported, and no file is truncated."""
    run = tmp_path / "run"
    disk_full(after)
    hint = check_error(
        xmodal("train", "--model", "vse", "--data", vector_data, *SET, "--out", run), "no space left", run
    )
    assert "MB are free" in hint
    for file in run.rglob("*.json"):
        json.loads(file.read_text())
    if (run / "model.safetensors").exists():
        assert xmodal("models", "info", run, "--json").code == 0


def test_resuming_on_a_full_disk_keeps_the_run(
    xmodal: Run, tmp_path: Path, vector_data: Path, vector_run: Path, disk_full: Callable[[int], None]
) -> None:
    run = shutil.copytree(vector_run, tmp_path / "run")
    before = files(run)
    more = ["train", "--model", "vse", "--data", vector_data, *SET, "--set", "schedule.name=constant", "--out", run]
    check_error(xmodal(*more, "--resume"), "different settings")
    disk_full(0)
    check_error(
        xmodal("train", "--model", "vse", "--data", vector_data, *SET, "--out", run, "--resume"), "no space left"
    )
    assert files(run) == before


@pytest.mark.parametrize("board", ["true", "false"])
def test_train_with_a_full_log_device(xmodal: Run, tmp_path: Path, vector_data: Path, board: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full does not exist")
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        if board == "true":
            patch.setattr("tensorboardX.record_writer.open_file", lambda _: open("/dev/full", "wb"))  # noqa: SIM115
        else:
            patch.setattr("xmodal_cli.training.log.FILE", "/dev/full")
            patch.setattr("xmodal_cli.recipes.train.rewind_log", lambda *_: None)
        settings = [*SET, "--set", f"training.tensorboard={board}"]
        check_error(xmodal("train", "--model", "vse", "--data", vector_data, *settings, "--out", run), "no space left")
    assert not (run / "model.safetensors").exists()


def test_train_with_a_file_size_limit(
    xmodal: Run, tmp_path: Path, vector_data: Path, small_files_only: Callable[[int], None]
) -> None:
    run = tmp_path / "run"
    small_files_only(100_000)  # enough for the config and the output of the tests, not for the model
    outcome = xmodal(
        "train", "--model", "vse", "--data", vector_data, *SET, "--set", "model.embed_dim=2000", "--out", run
    )
    check_error(outcome, run / "model.safetensors", "cannot be written")
    assert set(files(run)) == {run / "config.toml", run / "log.jsonl"}


def test_paths_that_cannot_be_written(xmodal: Run, tmp_path: Path, vector_data: Path, vector_run: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    check_error(xmodal("train", "--model", "vse", "--data", vector_data, *SET, "--out", file / "run"), file)
    check_error(xmodal("features", vector_data, "--model", vector_run, "--out", file / "x.npz"), file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("after", range(2))
def test_features_on_a_full_disk(
    xmodal: Run, tmp_path: Path, image_data: Path, disk_full: Callable[[int], None], after: int
) -> None:
    out = tmp_path / "features"
    disk_full(after)
    check_error(xmodal("features", image_data, "--out", out), "no space left", out)
    assert not (out / "features.json").exists()


def test_vectors_on_a_full_disk(
    xmodal: Run, tmp_path: Path, vector_data: Path, vector_run: Path, disk_full: Callable[[int], None]
) -> None:
    outputs = [tmp_path / "x.npz", tmp_path / "x.safetensors"]
    for out in outputs:
        assert xmodal("features", vector_data, "--model", vector_run, "--split", "val", "--out", out).code == 0
    before = files(tmp_path)
    disk_full(0)
    for out in outputs:
        check_error(xmodal("features", vector_data, "--model", vector_run, "--out", out), "no space left", out)
    assert files(tmp_path) == before


def test_index_on_a_full_disk_keeps_the_old_index(
    xmodal: Run, home: Path, tmp_path: Path, image_data: Path, image_run: Path, disk_full: Callable[[int], None]
) -> None:
    photos = shutil.copytree(image_data, tmp_path / "photos")
    assert xmodal("index", photos, "--model", image_run).code == 0
    before = xmodal("search", photos / "0.png", "--all", "--json").json
    Image.new("RGB", (30, 30), "yellow").save(photos / "new.png")
    for after in range(20):
        disk_full(after)
        outcome = xmodal("index", photos)
        check_error(outcome, "no space left", home / "indexes")
        if "last.json" in outcome.err or "index.json" in outcome.err:  # written after the last commit
            break
        assert xmodal("search", photos / "0.png", "--all", "--json").json == before
    assert after >= 1  # the disk was full for the vectors first
    assert len(xmodal("search", photos / "0.png", "--all", "--json").json["hits"]) == len(before["hits"]) + 1 == 9
