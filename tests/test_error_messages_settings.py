"""Error messages for misspelled names and wrong settings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.error_checks import SET, Run, check_error, files

pytestmark = pytest.mark.usefixtures("mean_color_backbone", "no_temporary_files")


def test_misspelled_presets(xmodal: Run, home: Path, vector_data: Path) -> None:
    assert "'order-emb'" in check_error(
        xmodal("train", "--model", "order-em", "--data", vector_data), "preset", "'order-em'"
    )
    check_error(xmodal("train", "--model", "mine.toml", "--data", vector_data), "mine.toml")
    assert files(home) == {}


@pytest.mark.parametrize(
    ("setting", "named", "hint"),
    [
        ("training.epoch=3", "training.epoch", "training.epochs"),
        ("trainin.epochs=3", "trainin", "training"),
        ("training.epochs=many", "training.epochs must be a whole number", "the default is 8"),
        ("training.epochs=0", "training.epochs must be at least 1", "the default is 8"),
        ("training.epochs", "not of the form section.key=value", "--set training.epochs=10"),
        ("loss=triplit", "triplit", "triplet"),
        ("loss.args.margn=0.1", "margn", "margin"),
        ("model.text_encoder=gruu", "gruu", "gru"),
        ("optimizer.name=adamm", "adamm", "adam"),
        ("schedule.name=cosin", "cosin", "cosine"),
    ],
)
def test_wrong_settings(xmodal: Run, home: Path, vector_data: Path, setting: str, named: str, hint: str) -> None:
    outcome = xmodal("train", "--model", "order-emb", "--data", vector_data, "--set", setting)
    assert hint in check_error(outcome, named)
    assert files(home) == {}


def test_unknown_models(xmodal: Run, home: Path, vector_data: Path, vector_run: Path, tmp_path: Path) -> None:
    shutil.copytree(vector_run, home / "runs" / "vse-toys")
    before = files(home)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    commands = (
        ["eval", "vse-tos", "--data", vector_data],
        ["features", vector_data, "--model", "vse-tos"],
        ["models", "info", "vse-tos"],
        ["index", photos, "--model", "vse-tos"],
        ["train", "--model", "vse", "--data", vector_data, *SET, "--init-from", "vse-tos"],
    )
    for command in commands:
        assert "did you mean 'vse-toys'?" in check_error(xmodal(*command), "model", "'vse-tos'")
    check_error(xmodal("eval", tmp_path / "no.safetensors", "--data", vector_data), tmp_path / "no.safetensors")
    assert files(home) == before
