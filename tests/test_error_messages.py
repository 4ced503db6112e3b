"""Error messages of the commands for invalid input, missing, damaged and incompatible files, and full disks.

Every case runs the command line. It must exit with code 1, print nothing on stdout and one ``error:`` and one ``hint:``
line on stderr, leave no temporary files and change no existing files.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.backbones import image_backbones
from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.config import load_config
from xmodal_cli.features import cache
from xmodal_cli.recipes.train import train_model
from xmodal_cli.types import FeatureMeta

Run = Callable[..., Any]
WORDS = ("red", "green", "blue", "grey")
SMALL = (
    "model.embed_dim=16",
    "model.text_encoder=bow",
    "model.text_encoder.args={word_dim=8}",
    "training.epochs=1",
    "training.log_every=1",
    "training.tensorboard=false",
    "training.precision=fp32",
)
SET = [part for setting in SMALL for part in ("--set", setting)]


def files(*folders: Path) -> dict[Path, bytes]:
    """Every file below the folders, with its content."""
    return {f: f.read_bytes() for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()}


def check_error(outcome: Any, *named: object) -> str:
    """Check that the outcome is an error whose message contains the ``named`` values; returns its hint."""
    assert outcome.code == 1, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert "this is a bug" not in outcome.err
    *messages, error, hint = outcome.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert not [line for line in messages if line.startswith(("error:", "hint:"))]
    for thing in named:
        assert str(thing) in error
    assert len(hint) > len("hint: ") + 5
    return hint.removeprefix("hint: ")


# ---------------------------------------------------------------------------- small datasets and runs


def write_vectors(folder: Path) -> Path:
    """A dataset with precomputed features: one row per image, two captions per image."""
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "dev", "test")):
        words = np.random.default_rng(seed).integers(len(WORDS), size=(20, 2))
        np.save(folder / f"{split}_ims.npy", np.eye(len(WORDS), dtype=np.float32)[words].sum(1))
        lines = [f"{form} {WORDS[a]} {WORDS[b]}\n" for a, b in words for form in ("a", "the")]
        (folder / f"{split}_caps.txt").write_text("".join(lines))
    return folder


def write_images(folder: Path) -> Path:
    """Eight plain images with one caption per image, half in train, half in val."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(8):
        word = WORDS[number % len(WORDS)]
        Image.new("RGB", (40, 30), word).save(folder / f"{number}.png")
        entry = {"image": f"{number}.png", "captions": [f"a {word} one"], "split": "train" if number < 4 else "val"}
        lines.append(json.dumps(entry) + "\n")
    (folder / "data.jsonl").write_text("".join(lines))
    return folder


class MeanColorBackbone:
    """A backbone whose features are the mean red, green and blue of an image. Replaces the default backbone."""

    weights_file = None

    def __init__(self) -> None:
        self.preprocessing = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1)
        self.meta = FeatureMeta("efficientnet-lite2", "0" * 64, "global", 3, self.preprocessing.facts())

    def preprocess(self, image: Image.Image) -> Any:
        return self.preprocessing.pixels(image)

    def to(self, compute: object) -> None: ...

    def encode(self, pixels: Any) -> Any:
        return pixels.float().mean(dim=(2, 3)) / 255


@pytest.fixture(scope="module", autouse=True)
def mean_color_backbone() -> Iterator[None]:
    """Replace the default backbone by MeanColorBackbone."""
    real = image_backbones.build_backbone

    def build(name: str, kind: str = "global", crops: int = 1) -> Any:
        return MeanColorBackbone() if name == "efficientnet-lite2" else real(name, kind, crops)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_backbones, "build_backbone", build)
        patch.setattr(cache, "build_backbone", build)
        yield


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vectors(tmp_path_factory.mktemp("data") / "vectors")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def vectors_run(vectors: Path) -> Path:
    """A run on precomputed features; copy it before changing it."""
    return train_model(load_config("vse", SMALL), str(vectors), vectors.parent / "vectors-run").run


@pytest.fixture(scope="module")
def images_run(images: Path) -> Iterator[Path]:
    """A run on images with the default backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(images.parent / "home"))
        yield train_model(load_config("vse", SMALL), str(images), images.parent / "images-run").run


@pytest.fixture(autouse=True)
def no_temporary_files(tmp_path: Path, home: Path) -> Iterator[None]:
    yield
    assert [f for folder in (tmp_path, home) for f in folder.rglob("*") if f.name.endswith((".tmp", ".part"))] == []


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: no host name resolves, and the caches of the hubs are empty."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))


# ---------------------------------------------------------------------------- missing datasets


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ("f8k", "the dataset f8k is not on this machine", "xmodal data get f8k"),
        ("f30k", "the dataset f30k is not on this machine", "xmodal data add f30k PATH"),
        ("no/such/folder", "there is no dataset at no/such/folder", "xmodal data list"),
        ("shpaes", "there is no dataset called 'shpaes'", "did you mean 'shapes'?"),
    ],
)
def test_missing_datasets(xmodal: Run, home: Path, vectors_run: Path, data: str, message: str, hint: str) -> None:
    commands = (
        ["train", "--model", "vse", "--data", data],
        ["eval", vectors_run, "--data", data],
        ["features", data],
        ["features", data, "--model", vectors_run],
        ["data", "info", data],
    )
    for command in commands:
        assert hint in check_error(xmodal(*command, "--json"), message)
    assert files(home) == {}


def test_empty_folders_and_folders_of_text(xmodal: Run, home: Path, tmp_path: Path, vectors_run: Path) -> None:
    empty, texts = tmp_path / "empty", tmp_path / "texts"
    empty.mkdir()
    texts.mkdir()
    for name in ("a.txt", "b.txt", "notes.md"):
        (texts / name).write_text("a red one\n")
    for folder, reason in ((empty, "the folder is empty"), (texts, "no images or captions, only .md, .txt")):
        commands = (["train", "--model", "vse", "--data"], ["eval", vectors_run, "--data"], ["features"])
        for command in (*commands, ["data", "info"], ["data", "add", "mine"]):
            check_error(xmodal(*command, folder), folder, reason)
    check_error(xmodal("index", empty, "--model", vectors_run), empty)
    check_error(xmodal("index", texts, "--model", vectors_run), texts)
    assert files(home) == {}


def test_data_without_the_split(xmodal: Run, home: Path, images: Path, vectors: Path, vectors_run: Path) -> None:
    assert "--split" in check_error(
        xmodal("eval", vectors_run, "--data", vectors, "--split", "tset"), "tset", "test (20)"
    )
    assert "did you mean 'train'" in check_error(xmodal("features", images, "--split", "trian"), "trian")
    wrong = xmodal("train", "--model", "vse", "--data", vectors, *SET, "--set", "data.val_split=vall")
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


# ---------------------------------------------------------------------------- names and settings


def test_misspelled_presets(xmodal: Run, home: Path, vectors: Path) -> None:
    assert "'order-emb'" in check_error(
        xmodal("train", "--model", "order-em", "--data", vectors), "preset", "'order-em'"
    )
    check_error(xmodal("train", "--model", "mine.toml", "--data", vectors), "mine.toml")
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
def test_wrong_settings(xmodal: Run, home: Path, vectors: Path, setting: str, named: str, hint: str) -> None:
    outcome = xmodal("train", "--model", "order-emb", "--data", vectors, "--set", setting)
    assert hint in check_error(outcome, named)
    assert files(home) == {}


def test_unknown_models(xmodal: Run, home: Path, vectors: Path, vectors_run: Path, tmp_path: Path) -> None:
    shutil.copytree(vectors_run, home / "runs" / "vse-toys")
    before = files(home)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"")
    commands = (
        ["eval", "vse-tos", "--data", vectors],
        ["features", vectors, "--model", "vse-tos"],
        ["models", "info", "vse-tos"],
        ["index", photos, "--model", "vse-tos"],
        ["train", "--model", "vse", "--data", vectors, *SET, "--init-from", "vse-tos"],
    )
    for command in commands:
        assert "did you mean 'vse-toys'?" in check_error(xmodal(*command), "model", "'vse-tos'")
    check_error(xmodal("eval", tmp_path / "no.safetensors", "--data", vectors), tmp_path / "no.safetensors")
    assert files(home) == before


# ---------------------------------------------------------------------------- incompatible and damaged models


def test_models_of_another_backbone(
    xmodal: Run, home: Path, tmp_path: Path, vectors: Path, vectors_run: Path, images: Path, images_run: Path
) -> None:
    check_error(xmodal("eval", vectors_run, "--data", images, "--split", "val"), "images", "precomputed features")
    check_error(xmodal("eval", images_run, "--data", vectors), "efficientnet-lite2", "precomputed")
    check_error(xmodal("index", images, "--model", vectors_run), "vectors-run", "precomputed features")
    check_error(xmodal("features", vectors, "--model", images_run, "--out", tmp_path / "x.npz"), "efficientnet-lite2")
    start = ["--init-from", vectors_run, "--out", tmp_path / "run"]
    patched = xmodal("train", "--model", "vse", "--data", images, *SET, *start)
    assert "--backbone" in check_error(patched, "precomputed", "efficientnet-lite2")
    assert files(tmp_path) == {}


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_truncated_models(
    xmodal: Run, tmp_path: Path, home: Path, vectors: Path, vectors_run: Path, images: Path, kept: float
) -> None:
    whole = (vectors_run / "model.safetensors").read_bytes()
    run = home / "runs" / "cut"
    run.mkdir(parents=True)
    model = run / "model.safetensors"
    model.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    commands = (
        ["eval", "cut", "--data", vectors],
        ["features", vectors, "--model", model],
        ["models", "info", "cut"],
        ["index", images, "--model", "cut"],
        ["train", "--model", "vse", "--data", vectors, *SET, "--init-from", "cut", "--out", tmp_path / "run"],
    )
    for command in commands:
        check_error(xmodal(*command), model, "truncated")
    assert list(files(tmp_path, home)) == [model]


def test_files_that_are_not_models(xmodal: Run, tmp_path: Path, vectors: Path) -> None:
    text = tmp_path / "model.safetensors"
    text.write_text("this is not a model, but a text that is long enough for a header")
    check_error(xmodal("eval", text, "--data", vectors), text)
    from safetensors.numpy import save_file

    save_file({"weight": np.ones((2, 2), np.float32)}, tmp_path / "foreign.safetensors")
    check_error(
        xmodal("eval", tmp_path / "foreign.safetensors", "--data", vectors),
        "foreign.safetensors",
        "not an xmodal model",
    )


def test_a_damaged_resume_state(xmodal: Run, tmp_path: Path, vectors: Path, vectors_run: Path) -> None:
    run = shutil.copytree(vectors_run, tmp_path / "run")
    state = run / "last" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    before = files(run)
    again = ["train", "--model", "vse", "--data", vectors, *SET, "--out", run]
    check_error(xmodal(*again, "--resume", "--set", "training.epochs=1"), state)
    check_error(xmodal(*again), run, "already contains a training run")
    assert files(run) == before


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("backbone", ["vgg19", "resnet101"])
def test_weights_that_cannot_be_downloaded(
    xmodal: Run, home: Path, images: Path, tmp_path: Path, backbone: str
) -> None:
    for command in (
        ["features", images, "--backbone", backbone],
        ["train", "--model", "vse", "--data", images, "--backbone", backbone, "--out", tmp_path / "run"],
    ):
        hint = check_error(xmodal(*command), backbone, "cannot be downloaded")
        assert "https://" in hint
        assert str(tmp_path / "torch") in hint  # the path for the file
    check_error(xmodal("features", images, "--backbone", "vgg91"), "'vgg91'")
    check_error(xmodal("features", images, "--backbone", "vgg19@no.pth"), "no.pth")
    assert files(home, tmp_path) == {}


# ---------------------------------------------------------------------------- full disks


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
    xmodal: Run, tmp_path: Path, vectors: Path, disk_full: Callable[[int], None], after: int
) -> None:
    """The disk is full at the config, log, model, state, metrics or curves: reported, and no file is truncated."""
    run = tmp_path / "run"
    disk_full(after)
    hint = check_error(xmodal("train", "--model", "vse", "--data", vectors, *SET, "--out", run), "no space left", run)
    assert "MB are free" in hint
    for file in run.rglob("*.json"):
        json.loads(file.read_text())
    if (run / "model.safetensors").exists():
        assert xmodal("models", "info", run, "--json").code == 0


def test_resuming_on_a_full_disk_keeps_the_run(
    xmodal: Run, tmp_path: Path, vectors: Path, vectors_run: Path, disk_full: Callable[[int], None]
) -> None:
    run = shutil.copytree(vectors_run, tmp_path / "run")
    before = files(run)
    more = ["train", "--model", "vse", "--data", vectors, *SET, "--set", "schedule.name=constant", "--out", run]
    check_error(xmodal(*more, "--resume"), "different settings")
    disk_full(0)
    check_error(xmodal("train", "--model", "vse", "--data", vectors, *SET, "--out", run, "--resume"), "no space left")
    assert files(run) == before


@pytest.mark.parametrize("board", ["true", "false"])
def test_train_with_a_full_log_device(xmodal: Run, tmp_path: Path, vectors: Path, board: str) -> None:
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
        check_error(xmodal("train", "--model", "vse", "--data", vectors, *settings, "--out", run), "no space left")
    assert not (run / "model.safetensors").exists()


def test_train_with_a_file_size_limit(
    xmodal: Run, tmp_path: Path, vectors: Path, small_files_only: Callable[[int], None]
) -> None:
    run = tmp_path / "run"
    small_files_only(500_000)  # enough for the config and the output of the tests, not for the model
    outcome = xmodal("train", "--model", "vse", "--data", vectors, *SET, "--set", "model.embed_dim=50000", "--out", run)
    check_error(outcome, run / "model.safetensors", "cannot be written")
    assert set(files(run)) == {run / "config.toml", run / "log.jsonl"}


def test_paths_that_cannot_be_written(xmodal: Run, tmp_path: Path, vectors: Path, vectors_run: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    check_error(xmodal("train", "--model", "vse", "--data", vectors, *SET, "--out", file / "run"), file)
    check_error(xmodal("features", vectors, "--model", vectors_run, "--out", file / "x.npz"), file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("after", range(2))
def test_features_on_a_full_disk(
    xmodal: Run, tmp_path: Path, images: Path, disk_full: Callable[[int], None], after: int
) -> None:
    out = tmp_path / "features"
    disk_full(after)
    check_error(xmodal("features", images, "--out", out), "no space left", out)
    assert not (out / "features.json").exists()


def test_vectors_on_a_full_disk(
    xmodal: Run, tmp_path: Path, vectors: Path, vectors_run: Path, disk_full: Callable[[int], None]
) -> None:
    outputs = [tmp_path / name for name in ("x.npz", "x.safetensors")]
    for out in outputs:
        assert xmodal("features", vectors, "--model", vectors_run, "--out", out).code == 0
    for out in outputs:
        older = out.read_bytes()
        disk_full(0)
        check_error(xmodal("features", vectors, "--model", vectors_run, "--out", out), "no space left", out)
        assert out.read_bytes() == older


def test_index_on_a_full_disk_keeps_the_old_index(
    xmodal: Run, home: Path, tmp_path: Path, images: Path, images_run: Path, disk_full: Callable[[int], None]
) -> None:
    photos = shutil.copytree(images, tmp_path / "photos")
    assert xmodal("index", photos, "--model", images_run).code == 0
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
