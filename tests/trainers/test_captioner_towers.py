"""The image backbone of a captioner is fine-tuned, in its last blocks or from pixels, as a second stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from xmodal_cli.config import load_config
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.recipes.evaluate_captions import score_captioners
from xmodal_cli.recipes.train import train_model

SMALL = (
    "model.embed_dim=64",
    "data.min_word_count=1",
    "training.epochs=1",
    "training.batch_size=20",
    "training.patience=0",
    "training.ema=0",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
    "schedule.name=constant",
    "schedule.warmup_steps=0",
    "decoding.max_length=8",
    "optimizer.lr=0.002",
)
TUNE = ("optimizer.image_tower_lr_scale=0.1", "training.eval_initial=true")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=8, num_val=4, num_test=0)


@pytest.fixture(autouse=True)
def no_curves_and_no_java(monkeypatch):
    monkeypatch.setattr("xmodal_cli.recipes.train.draw_curves", lambda run: None)
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def backbone(request, tmp_path, tiny_clip):
    """The name of a small random network of a family."""
    if request.param == "open_clip":
        return tiny_clip("captioner")[0]
    import timm

    torch.manual_seed(0)
    torch.save(timm.create_model(request.param, num_classes=0).state_dict(), tmp_path / "weights.pth")
    return f"timm/{request.param}@{tmp_path / 'weights.pth'}"


def train(shapes, run: Path, preset: str, *settings: str, **how):
    return train_model(load_config(preset, [*SMALL, *settings]), str(shapes), run, **how)


def history(run: Path) -> list[dict[str, float]]:
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))["history"]


STAGES = [
    pytest.param("test_vit", "show-attend-tell", "grid", 2, id="vit-2-blocks"),
    pytest.param("test_resnet", "transformer", "grid", 0, id="resnet-pixels"),
    pytest.param("open_clip", "clip-gpt2", "global", 1, id="clip-1-block"),
    pytest.param("open_clip", "clip-gpt2", "global", 0, id="clip-pixels"),
]


@pytest.mark.parametrize(("backbone", "preset", "kind", "num_blocks"), STAGES, indirect=["backbone"])
def test_the_backbone_is_trained_in_a_second_stage(xmodal, home, shapes, tmp_path, backbone, preset, kind, num_blocks):
    same = (f"features.backbone={backbone}", f"features.kind={kind}")
    train(shapes, tmp_path / "first", preset, *same)
    first = read_header(tmp_path / "first" / "model.safetensors")
    tune = (*same, *TUNE, f"features.tuned_blocks={num_blocks}", "augmentation.flip=0")
    result = train(shapes, tmp_path / "second", preset, *tune, init_from=str(tmp_path / "first"))
    start, _ = history(tmp_path / "second")
    assert start["cider"] == pytest.approx(first.metrics["cider"], abs=0.05)  # the same model, from other features
    header, tensors = (read(tmp_path / "second" / "model.safetensors") for read in (read_header, read_tensors))
    assert header.meta.kind == (f"trunk-{num_blocks}" if num_blocks else "pixels")
    assert header.architecture["towers"]["image"]["blocks"] == num_blocks
    assert any(name.startswith("tower.network.") for name in tensors)
    metrics = score_captioners([str(result.run)], str(shapes), "val", {"beam": 1}, Compute("cpu", "fp32")).result
    assert metrics.scores["cider"] == pytest.approx(result.metrics["cider"], abs=1e-6)

    photos = sorted((shapes / "images").glob("*.png"))[:3]
    done = xmodal("caption", *photos, "--model", tmp_path / "second", "--device", "cpu", "--json")
    assert done.code == 0, done.err
    assert [len(entry["captions"]) for entry in done.json] == [1, 1, 1]
    assert bool(list(home.glob("cache/captioners/*/start.onnx"))) == bool(num_blocks)  # pixels need torch
    if kind == "grid":
        maps = tmp_path / "maps"
        done = xmodal("caption", *photos, "--model", tmp_path / "second", "--device", "cpu", "--attention", maps)
        assert done.code == 0, done.err
        assert len(list(maps.glob("*-attention.png"))) == 3
    info = xmodal("models", "info", tmp_path / "second")
    assert "image tower" in info.out and "fine-tuned" in info.out


@pytest.mark.parametrize("backbone", ["open_clip"], indirect=True)
def test_the_weights_of_the_clip_tower_change(shapes, tmp_path, backbone):
    same = (f"features.backbone={backbone}", "features.kind=global", *TUNE, "training.eval_initial=false")
    train(shapes, tmp_path / "run", "clip-gpt2", *same, "optimizer.lr=0.01")
    start = load_file(backbone.partition("@")[2])
    tensors = read_tensors(tmp_path / "run" / "model.safetensors")
    pairs = {
        key: (value, start[f"visual.{key.removeprefix('tower.network.')}"])
        for key, value in tensors.items()
        if key.startswith("tower.network.")
    }
    changed = [key for key, (value, before) in pairs.items() if not torch.equal(value, before)]
    assert len(changed) > 0.8 * len(pairs)


@pytest.mark.parametrize("backbone", ["test_resnet"], indirect=True)
def test_a_run_from_pixels_is_resumed_exactly(shapes, tmp_path, backbone):
    """Batch normalization has running means, which are part of the state."""
    settings = (f"features.backbone={backbone}", "features.kind=grid", *TUNE)
    train(shapes, tmp_path / "whole", "show-attend-tell", *settings, "training.epochs=2")
    train(shapes, tmp_path / "parts", "show-attend-tell", *settings)
    train(shapes, tmp_path / "parts", "show-attend-tell", *settings, "training.epochs=2", resume=True)
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    parts, whole = (load_file(tmp_path / run / "last" / "state.safetensors") for run in ("parts", "whole"))
    assert any("running_mean" in name for name in whole)
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


@pytest.mark.parametrize("backbone", ["test_vit"], indirect=True)
def test_self_critical_training_from_pixels(shapes, tmp_path, backbone):
    settings = (f"features.backbone={backbone}", "features.kind=grid", *TUNE)
    train(shapes, tmp_path / "first", "transformer", *settings)
    sc = ("loss.name=self-critical", "loss.args={num_samples=2}")
    train(shapes, tmp_path / "sc", "transformer", *settings, *sc, init_from=str(tmp_path / "first"))
    assert len(history(tmp_path / "sc")) == 2
