"""Error messages for missing, empty and damaged datasets."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.error_checks import SET, Run, check_error, files, write_vectors

pytestmark = pytest.mark.usefixtures("mean_color_backbone", "no_temporary_files")


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ("f8k", "the dataset f8k is not on this machine", "xmodal data get f8k"),
        ("f30k", "the dataset f30k is not on this machine", "xmodal data add f30k PATH"),
        ("no/such/folder", "there is no dataset at no/such/folder", "xmodal data list"),
        ("shpaes", "there is no dataset called 'shpaes'", "did you mean 'shapes'?"),
    ],
)
def test_missing_datasets(xmodal: Run, home: Path, vector_run: Path, data: str, message: str, hint: str) -> None:
    commands = (
        ["train", "--model", "vse", "--data", data],
        ["eval", vector_run, "--data", data],
        ["features", data],
        ["features", data, "--model", vector_run],
        ["data", "info", data],
    )
    for command in commands:
        assert hint in check_error(xmodal(*command, "--json"), message)
    assert files(home) == {}


def test_empty_folders_and_folders_of_text(xmodal: Run, home: Path, tmp_path: Path, vector_run: Path) -> None:
    empty, texts = tmp_path / "empty", tmp_path / "texts"
    empty.mkdir()
    texts.mkdir()
    for name in ("a.txt", "b.txt", "notes.md"):
        (texts / name).write_text("a red one\n")
    for folder, reason in ((empty, "the folder is empty"), (texts, "no images or captions, only .md, .txt")):
        commands = (["train", "--model", "vse", "--data"], ["eval", vector_run, "--data"], ["features"])
        for command in (*commands, ["data", "info"], ["data", "add", "mine"]):
            check_error(xmodal(*command, folder), folder, reason)
    check_error(xmodal("index", empty, "--model", vector_run), empty)
    check_error(xmodal("index", texts, "--model", vector_run), texts)
    assert files(home) == {}


def test_data_without_the_split(xmodal: Run, home: Path, image_data: Path, vector_data: Path, vector_run: Path) -> None:
    assert "--split" in check_error(
        xmodal("eval", vector_run, "--data", vector_data, "--split", "tset"), "tset", "test (20)"
    )
    assert "did you mean 'train'" in check_error(xmodal("features", image_data, "--split", "trian"), "trian")
    wrong = xmodal("train", "--model", "vse", "--data", vector_data, *SET, "--set", "data.val_split=vall")
    assert "data.val_split" in check_error(wrong, "vall", "val (20)")
    assert files(home) == {}


def test_damaged_datasets(xmodal: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset_x.json").write_text('{"images": [{"filename": "a.jpg"')
    check_error(xmodal("train", "--model", "vse", "--data", tmp_path), tmp_path / "dataset_x.json", "line 1")
    (tmp_path / "dataset_x.json").unlink()
    data = write_vectors(tmp_path / "v")
    (data / "dev_ims.npy").write_bytes((data / "dev_ims.npy").read_bytes()[:200])
    check_error(xmodal("train", "--model", "vse", "--data", data, *SET), data / "dev_ims.npy")
    assert files(home) == {}
