"""Error messages for incompatible, truncated and damaged models, and weights that cannot be downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.error_checks import SET, Run, check_error, files

pytestmark = pytest.mark.usefixtures("mean_color_backbone", "no_temporary_files")


def test_models_of_another_backbone(
    xmodal: Run, home: Path, tmp_path: Path, vector_data: Path, vector_run: Path, image_data: Path, image_run: Path
) -> None:
    check_error(xmodal("eval", vector_run, "--data", image_data, "--split", "val"), "images", "precomputed features")
    check_error(xmodal("eval", image_run, "--data", vector_data), "efficientnet-lite2", "precomputed")
    check_error(xmodal("index", image_data, "--model", vector_run), "vectors-run", "precomputed features")
    check_error(
        xmodal("features", vector_data, "--model", image_run, "--out", tmp_path / "x.npz"), "efficientnet-lite2"
    )
    start = ["--init-from", vector_run, "--out", tmp_path / "run"]
    patched = xmodal("train", "--model", "vse", "--data", image_data, *SET, *start)
    assert "--backbone" in check_error(patched, "precomputed", "efficientnet-lite2")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_truncated_models(
    xmodal: Run, tmp_path: Path, home: Path, vector_data: Path, vector_run: Path, image_data: Path, kept: float
) -> None:
    whole = (vector_run / "model.safetensors").read_bytes()
    run = home / "runs" / "cut"
    run.mkdir(parents=True)
    model = run / "model.safetensors"
    model.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    commands = (
        ["eval", "cut", "--data", vector_data],
        ["features", vector_data, "--model", model],
        ["models", "info", "cut"],
        ["index", image_data, "--model", "cut"],
        ["train", "--model", "vse", "--data", vector_data, *SET, "--init-from", "cut", "--out", tmp_path / "run"],
    )
    for command in commands:
        check_error(xmodal(*command), model, "truncated")
    assert list(files(tmp_path, home)) == [model]


def test_files_that_are_not_models(xmodal: Run, tmp_path: Path, vector_data: Path) -> None:
    text = tmp_path / "model.safetensors"
    text.write_text("this is not a model, but a text that is long enough for a header")
    check_error(xmodal("eval", text, "--data", vector_data), text)
    from safetensors.numpy import save_file

    save_file({"weight": np.ones((2, 2), np.float32)}, tmp_path / "foreign.safetensors")
    check_error(
        xmodal("eval", tmp_path / "foreign.safetensors", "--data", vector_data),
        "foreign.safetensors",
        "not an xmodal model",
    )


def test_a_damaged_resume_state(xmodal: Run, tmp_path: Path, vector_data: Path, vector_run: Path) -> None:
    run = shutil.copytree(vector_run, tmp_path / "run")
    state = run / "last" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    before = files(run)
    again = ["train", "--model", "vse", "--data", vector_data, *SET, "--out", run]
    check_error(xmodal(*again, "--resume", "--set", "training.epochs=1"), state)
    check_error(xmodal(*again), run, "already contains a training run")
    assert files(run) == before


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("backbone", ["vgg19", "resnet101"])
def test_weights_that_cannot_be_downloaded(
    xmodal: Run, home: Path, image_data: Path, tmp_path: Path, backbone: str
) -> None:
    for command in (
        ["features", image_data, "--backbone", backbone],
        ["train", "--model", "vse", "--data", image_data, "--backbone", backbone, "--out", tmp_path / "run"],
    ):
        hint = check_error(xmodal(*command), backbone, "cannot be downloaded")
        assert "https://" in hint
        assert str(tmp_path / "torch") in hint  # the path for the file
    check_error(xmodal("features", image_data, "--backbone", "vgg91"), "'vgg91'")
    check_error(xmodal("features", image_data, "--backbone", "vgg19@no.pth"), "no.pth")
    assert files(home, tmp_path) == {}
