"""The models that come with xmodal: whole, small, found by name, refused when damaged; and the defaults."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xmodal_cli import paths, starter
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, BadModel, MissingData, UnknownName
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.models import describe_model, find_model, model_names
from xmodal_cli.inference.torch_backbones import backbone_of
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.recipes.models import set_default

Run = Callable[..., Any]
FILES = sorted(starter.folder().glob("*.safetensors"))


def test_the_folder_holds_the_two_files_and_their_sums() -> None:
    assert sorted(file.stem for file in FILES) == sorted(starter.NAMES.values())
    assert sum(file.stat().st_size for file in FILES) <= 30e6
    others = {path.name for path in starter.folder().iterdir()} - {file.name for file in FILES}
    assert others <= {"__init__.py", "__pycache__", "graphs", starter.SUMS}
    for file in FILES:
        starter.check(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_half_precision_and_no_trace_of_the_machine(file: Path) -> None:
    assert {str(value.dtype) for value in read_tensors(file).values()} == {"torch.float16"}
    header = read_header(file)
    assert header.dataset["name"] == "f8k"
    content = file.read_bytes()
    folders = (Path.home(), Path(tempfile.gettempdir()), Path(__file__).resolve().parents[2])
    assert not any(f"{folder}/".encode() in content for folder in folders)


def test_the_captioner_reads_the_matchers_backbone() -> None:
    captioner = describe_model(starter.CAPTIONER)
    assert captioner.meta.backbone == f"efficientnet-lite2@{starter.MATCHER}"
    assert backbone_of(captioner.name, captioner.meta).meta.key() == captioner.meta.key()


def test_they_are_found_by_name_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(starter.NAMES.values()) <= set(model_names())
    for name in starter.NAMES.values():
        assert find_model(name) == starter.file_of(name)
        assert (describe_model(name).name, describe_model(name).source) == (name, name)
    with pytest.raises(UnknownName, match="startr") as caught:
        find_model("startr")
    assert "starter" in str(caught.value.hint)


def test_a_run_of_the_same_name_comes_first() -> None:
    own = paths.runs_dir() / "starter" / "model.safetensors"
    own.parent.mkdir(parents=True)
    shutil.copy(FILES[0], own)
    assert find_model("starter") == own
    assert model_names().count("starter") == 1
    assert describe_model("starter").source == str(own.resolve())


def test_the_matcher_knows_what_belongs_together() -> None:
    vectors = load_matcher(starter.MATCHER, Compute("cpu", "fp32")).embed_texts(
        ["two dogs running on grass", "a pair of puppies racing over a lawn", "a man reading a newspaper on a train"]
    )
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert near > far + 0.3
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder in whose files one bit of the weights is flipped."""
    folder = tmp_path / "starter"
    shutil.copytree(starter.folder(), folder)
    for file in folder.glob("*.safetensors"):
        content = bytearray(file.read_bytes())
        content[-1000] ^= 1
        file.write_bytes(content)
    monkeypatch.setattr(starter, "folder", lambda: folder)
    return folder


def test_a_damaged_file_is_refused(damaged: Path) -> None:
    with pytest.raises(BadModel, match=r"starter\.safetensors does not have its published checksum"):
        load_matcher(starter.MATCHER)
    with pytest.raises(BadModel, match=r"starter-captioner\.safetensors does not have its published checksum"):
        load_captioner(starter.CAPTIONER)
    meta = describe_model(starter.CAPTIONER).meta
    with pytest.raises(BadModel, match=r"starter\.safetensors does not have its published checksum"):
        backbone_of(starter.CAPTIONER, meta)


@pytest.mark.parametrize("content", [None, b"\xff", b"no sums\n"])
def test_without_its_list_of_checksums_nothing_passes(damaged: Path, content: bytes | None) -> None:
    file = damaged / "starter.safetensors"
    shutil.copy(FILES[0].with_name(file.name), file)
    starter.check(file)
    sums = damaged / starter.SUMS
    sums.unlink() if content is None else sums.write_bytes(content)
    with pytest.raises(BadModel, match=r"starter\.safetensors does not have its published checksum") as caught:
        starter.check(file)
    assert "--reinstall ." in str(caught.value.hint)


def test_a_missing_file_is_an_error(damaged: Path) -> None:
    (damaged / "starter.safetensors").unlink()
    with pytest.raises(MissingData, match="is missing from this installation"):
        starter.check(damaged / "starter.safetensors")


def test_defaults_are_set_shown_and_taken_back(xmodal: Run) -> None:
    assert {kind: default_model(kind) for kind in starter.NAMES} == starter.NAMES
    own = paths.runs_dir() / "mine" / "model.safetensors"
    own.parent.mkdir(parents=True)
    shutil.copy(starter.folder() / "starter.safetensors", own)
    paths.write_text(paths.config_file(), '[other]\nkept = "yes"\n')
    outcome = xmodal("models", "default", "mine", "--json")
    assert (outcome.code, outcome.json) == (0, {"matcher": "mine", "captioner": "starter-captioner"})
    marked = {entry["name"]: entry["default"] for entry in xmodal("models", "list", "--json").json}
    assert marked == {"mine": True, "starter": False, "starter-captioner": True}
    assert "mine *" in xmodal("models", "list").out
    assert xmodal("models", "default", "starter").code == 0
    assert default_model("matcher") == "starter"
    assert 'kept = "yes"' in paths.config_file().read_text(encoding="utf-8")
    assert xmodal("models", "default").out.split() == ["matcher", "starter", "captioner", "starter-captioner"]


def test_a_default_given_as_a_path_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(starter.folder() / "starter.safetensors", tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    assert set_default("own.safetensors") == ("matcher", str(tmp_path / "own.safetensors"))
    with pytest.raises(UnknownName):
        set_default("nothing-of-that-name")


@pytest.mark.parametrize("text", ["[defaults", "defaults = 3", "[defaults]\nmatcher = 3"])
def test_settings_that_cannot_be_read(text: str, xmodal: Run) -> None:
    paths.write_text(paths.config_file(), text)
    with pytest.raises(BadData, match=r"config\.toml"):
        default_model("matcher")
    outcome = xmodal("models", "list")
    assert outcome.code == 1
    assert "config.toml" in outcome.err
