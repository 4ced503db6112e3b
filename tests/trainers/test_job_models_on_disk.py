"""Models trained from features on disk: the runs are those of the same order in memory, resumed or by processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.process_runs import Run, largest_difference, train_by
from safetensors.torch import load_file

from xmodal_cli.config import load_config
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.features import image_features
from xmodal_cli.recipes.train import TrainResult, train_model
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.trainers import job
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.windows import Blocks

ROW_BYTES = 25 * 96 * 2  # of the grid of the backbone, in half precision
SETTINGS = (
    *("training.epochs=2", "training.batch_size=20", "training.patience=0", "training.ema=0", "training.device=cpu"),
    *("training.precision=fp32", "training.tensorboard=false", "schedule.name=constant", "schedule.warmup_steps=0"),
    *("data.min_word_count=1", "optimizer.lr=0.002"),
)
CAPTIONER = ("features.kind=grid", "decoding.max_length=8", f"features.memory={6 * ROW_BYTES / 1e9}")  # 6 of 24 images
TRANSFORMER = (*CAPTIONER, "model.embed_dim=24", "model.args={num_layers=1, dropout=0.1}")
ATTEND = (*CAPTIONER, "model.embed_dim=16", "model.args={attention_dim=12, dropout=0.1}")
SELF_CRITICAL = (*TRANSFORMER, "loss={name='self-critical', args={num_samples=2}}")
MATCHER = (
    "features.kind=global",
    f"features.memory={6 * 96 * 2 / 1e9}",
    "model.embed_dim=16",
    "model.text_encoder=bow",
)
MODELS = {
    "matcher": ("vse", (*MATCHER, "model.text_encoder.args={word_dim=8}")),
    "transformer": ("transformer", TRANSFORMER),
    "one caption": ("transformer", (*TRANSFORMER, "captioning.one_caption_per_image=true")),
    "tags": ("transformer", (*TRANSFORMER, "captioning.tag_prob=0.5")),
    "scheduled sampling": ("transformer", (*TRANSFORMER, "captioning.scheduled_sampling=0.3")),
    "show-attend-tell": ("show-attend-tell", ATTEND),
    "self-critical": ("transformer", SELF_CRITICAL),
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=24, num_val=8, num_test=0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for the whole file, so that features are extracted once."""
    return tmp_path_factory.mktemp("shared-home")


@pytest.fixture(autouse=True)
def in_shared_home(home: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(shared))
    monkeypatch.setenv("PATH", "")  # no METEOR
    monkeypatch.setattr("xmodal_cli.recipes.train.draw_curves", lambda run: None)


class Messages(SilentReporter):
    """Collects the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def settings_of(name: str, backbone: str) -> tuple[str, list[str]]:
    preset, settings = MODELS[name]
    return preset, [*SETTINGS, *settings, f"features.backbone={backbone}"]


def train(shapes: Path, run: Path, name: str, backbone: str, **how: Any) -> TrainResult:
    preset, settings = settings_of(name, backbone)
    return train_model(load_config(preset, settings), str(shapes), run, **how)


def is_equal(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "last" / "state.safetensors") for run in (one, other))
    metrics = ((run / "metrics.json").read_text(encoding="utf-8") for run in (one, other))
    same = first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())
    return same and next(metrics) == next(metrics)


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are in memory, and the order is that of features on disk."""
    blocks: dict[int, Blocks] = {}
    map_features = image_features._map_features

    def read(*args: Any) -> image_features.ImageFeatures:
        images = map_features(*args)
        rows: Any = images.features
        values = rows[:]
        blocks[id(values)] = Blocks(rows.block_of_image, rows.blocks_per_window)
        return replace(images, features=values)

    monkeypatch.setattr(image_features, "_map_features", read)
    monkeypatch.setattr(job, "blocks_of", lambda features: blocks[id(features)])


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The second epoch is interrupted after its first step."""
    step = TrainStep.__call__
    count = 0

    def failing(self: TrainStep, batch: Any, number: int) -> Any:
        nonlocal count
        count += 1
        if number > len(self.task.batches):
            raise KeyboardInterrupt
        return step(self, batch, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "__call__", failing)
        yield patch
    assert count > 1


@pytest.mark.parametrize("name", MODELS)
def test_a_run_on_disk_is_the_run_in_memory_in_the_same_order(
    shapes: Path, tmp_path: Path, tiny_backbone: str, name: str, request: pytest.FixtureRequest
) -> None:
    messages = Messages()
    train(shapes, tmp_path / "disk", name, tiny_backbone, reporter=messages)
    assert any("24 images are read from disk" in line for line in messages.lines)
    request.getfixturevalue("in_memory")
    train(shapes, tmp_path / "memory", name, tiny_backbone)
    assert is_equal(tmp_path / "disk", tmp_path / "memory")


@pytest.mark.parametrize("name", ["transformer", "self-critical"])
def test_a_resumed_run_is_the_whole_run(
    shapes: Path, tmp_path: Path, tiny_backbone: str, name: str, interrupted: pytest.MonkeyPatch
) -> None:
    assert train(shapes, tmp_path / "parts", name, tiny_backbone).interrupted
    interrupted.undo()
    train(shapes, tmp_path / "parts", name, tiny_backbone, resume=True)
    train(shapes, tmp_path / "whole", name, tiny_backbone)
    assert is_equal(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="groups of processes are tested on Linux")
def test_two_processes_read_from_disk(shapes: Path, tmp_path: Path, tiny_backbone: str) -> None:
    """One step has the gradients of one process; a resumed run is the whole run."""
    adam = ("optimizer.name=adam", "optimizer.weight_decay=0", "optimizer.grad_clip=0", "training.epochs=1")
    no_dropout = {
        "transformer": ("model.args={num_layers=1, dropout=0.0}",),
        "self-critical": ("model.args={num_layers=1, dropout=0.0}",),
        "matcher": ("model.image_encoder.args.dropout=0", "model.text_encoder.args={word_dim=8, dropout=0.0}"),
    }
    runs = {}
    for name, more in no_dropout.items():
        preset, settings = settings_of(name, tiny_backbone)
        runs[name] = Run(preset, (*settings, *adam, *more, "training.batch_size=1000"), str(shapes))
    preset, settings = settings_of("transformer", tiny_backbone)
    resumed = {
        "whole": Run(preset, settings, str(shapes)),
        "parts": Run(preset, (*settings, "training.epochs=1"), str(shapes), ("training.epochs=2",)),
    }
    train_by(1, runs, tmp_path)
    train_by(2, runs | resumed, tmp_path)
    for name in runs:
        assert largest_difference(tmp_path / "1" / name, tmp_path / "2" / name) < 1e-6
    assert is_equal(tmp_path / "2" / "whole", tmp_path / "2" / "parts")
