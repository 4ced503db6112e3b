"""Errors of reading files: a file that cannot be accessed is not called missing or damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch import nn, optim

from xmodal_cli import file_errors
from xmodal_cli.backbones.finetuned_tower import read_tuned_tower
from xmodal_cli.config import load_config
from xmodal_cli.data.sentences import read_sentences
from xmodal_cli.data.text_files import read_text
from xmodal_cli.errors import BadData, BadModel, XmodalError
from xmodal_cli.evaluation.embeddings import read_embeddings
from xmodal_cli.evaluation.rank_file import check_rank_file
from xmodal_cli.evaluation.results_file import read_results
from xmodal_cli.file_errors import reading
from xmodal_cli.models import model_file
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.models.word_vectors import check_word_vectors
from xmodal_cli.training.checkpoint import load_state


@pytest.fixture
def denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A safetensors file without read permission, also for root."""
    file = tmp_path / "last" / "state.safetensors"
    file.parent.mkdir()
    save_file({"images": np.ones((1, 2), np.float32)}, file)

    def deny(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(file_errors, "open", deny, raising=False)
    return file


def test_a_file_without_permission_is_not_called_missing_or_damaged(denied: Path) -> None:
    model = nn.Linear(1, 1)
    readers = (
        lambda: read_header(denied),
        lambda: read_embeddings(denied),
        lambda: read_tuned_tower(denied, "efficientnet-lite2"),
        lambda: load_state(denied.parent, {"model": model}, optim.Adam(model.parameters())),
    )
    for reader in readers:
        with pytest.raises(BadData, match="Permission denied") as error:
            reader()
        assert error.value.hint == "check its permissions and its disk"
        assert str(denied) in error.value.message


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_the_hint_of_a_failing_disk_is_not_to_delete_the_file(code: int, tmp_path: Path) -> None:
    with pytest.raises(BadModel) as error, reading(tmp_path / "a", "delete it", BadModel):
        raise OSError(code, "failed")
    assert "delete" not in error.value.hint
    with pytest.raises(BadModel) as error, reading(tmp_path / "a", "delete it", BadModel):
        raise ValueError("half a header")
    assert error.value.hint == "delete it"


def test_a_missing_package_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(file_errors, "open_safetensors", missing)
    monkeypatch.setattr(model_file, "open_safetensors", missing)
    for read in (lambda: read_tensors(file), lambda: read_header(file)):
        with pytest.raises(ModuleNotFoundError):
            read()
    with pytest.raises(ModuleNotFoundError), reading(file, "again"):
        missing()
    with pytest.raises(BadData), reading(file, "again"):
        raise ModuleNotFoundError("No module named 'nosuch'", name="nosuch")


def _read_with_numpy(file: Path) -> None:
    with reading(file, "hint"):
        np.load(file)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
@pytest.mark.parametrize(
    "read",
    [
        read_sentences,
        lambda file: load_config(str(file)),
        read_results,
        check_word_vectors,
        read_text,
        check_rank_file,
        read_header,
        _read_with_numpy,
    ],
)
def test_a_named_pipe_is_never_opened(tmp_path, read):
    """A reader that opened it would wait for a writer forever."""
    file = tmp_path / "pipe.toml"
    os.mkfifo(file)
    with pytest.raises(XmodalError, match=r"pipe\.toml .*(a named pipe, not a file|is not a file of|does not exist)"):
        read(file)
