"""Matchers with fine-tuned towers: the last layers on cached trunk features, or all layers from pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from xmodal_cli.backbones.image_backbones import build_network, build_upper
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.config import load_config
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel, ConfigError, IncompatibleFeatures
from xmodal_cli.inference.encoding import embed_images, image_vectors
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.losses.infonce import InfoNCE
from xmodal_cli.models.model_file import read_header, read_tensors, write_model
from xmodal_cli.models.towers import EncoderOnTower, load_trainable_state_dict, trainable_state_dict
from xmodal_cli.recipes import train as recipe
from xmodal_cli.recipes.train import train_model
from xmodal_cli.reporter import SILENT
from xmodal_cli.trainers.matcher import MatcherObjective

LR, STEPS, IMAGE_LR_SCALE, TEXT_LR_SCALE = 0.002, 4, 0.1, 0.05  # two epochs of two batches
TINY = (
    "model.embed_dim=32",
    "features.tuned_blocks=1",
    "text.tuned_layers=1",
    f"optimizer.lr={LR}",
    f"optimizer.image_tower_lr_scale={IMAGE_LR_SCALE}",
    f"optimizer.text_tower_lr_scale={TEXT_LR_SCALE}",
    "optimizer.weight_decay=0",
    "schedule.name=constant",
    "schedule.warmup_steps=0",
    "training.epochs=2",
    "training.batch_size=20",
    "training.ema=0.5",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
)
IMAGE_TOWER, TEXT_TOWER, FROZEN_LAYERS = "image_encoder.tower.", "text_encoder.encoder.tower.", "text_encoder.tower."


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One XMODAL_HOME for all tests of this file, so that frozen networks run once."""
    return tmp_path_factory.mktemp("shared-home")


@pytest.fixture(autouse=True)
def in_shared_home(home, shared, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(shared))
    monkeypatch.setattr(recipe, "draw_curves", lambda run: None)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=8, num_val=6, num_test=0)


def train(shapes, run, *settings, preset="best-offline", **options):
    return train_model(load_config(preset, [*TINY, *settings]), str(shapes), run, **options)


@pytest.fixture(scope="module")
def finished(shapes, shared, tmp_path_factory):
    """A finished run of best-offline (do not change it), and the learning-rate multiplier of each parameter."""
    run, lr_scales = tmp_path_factory.mktemp("runs") / "tuned", {}

    def record_lr_scales(self, config, model):
        optimizer = build_optimizer(self, config, model)
        by_id = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
        lr_scales.update({name.removeprefix("model."): by_id.get(id(p)) for name, p in model.named_parameters()})
        return optimizer

    build_optimizer = MatcherObjective.build_optimizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(shared))
        patch.setattr(MatcherObjective, "build_optimizer", record_lr_scales)
        train(shapes, run)
    return run, lr_scales


@pytest.fixture
def tuned(finished):
    return finished[0]


def evaluate(xmodal, run, shapes):
    outcome = xmodal(
        "eval", run, "--data", shapes, "--split", "val", "--device", "cpu", "--precision", "fp32", "--json"
    )
    assert outcome.code == 0, outcome.err
    return outcome.json


def flatten(result):
    """The metrics of ``eval --json`` with the names of ``metrics.json``."""
    sides = ("image_to_text", "text_to_image")
    metrics = {f"{side} {name}": value for side in sides for name, value in result[side].items()}
    return {**metrics, "rsum": result["rsum"]}


def best_metrics(run):
    metrics = json.loads((run / "metrics.json").read_text())["best"]
    return {name: value for name, value in metrics.items() if name != "epoch"}


def test_eval_reproduces_the_metrics_of_training(xmodal, shapes, tuned):
    metrics = flatten(evaluate(xmodal, tuned, shapes))
    assert metrics == best_metrics(tuned)
    assert read_header(tuned / "model.safetensors").metrics["rsum"] == metrics["rsum"]


def test_the_model_file_has_only_trained_weights(tuned):
    tensors, header = read_tensors(tuned / "model.safetensors"), read_header(tuned / "model.safetensors")
    image, text = build_upper("efficientnet-lite2", "grid", 1)[0], build_text_backbone("minilm", 1).upper
    parts = [f"{side}.project.{part}" for side in ("image", "text") for part in ("weight", "bias")]
    heads = {
        p.replace("image.", "image_encoder.encoder.").replace("text.", "text_encoder.encoder.encoder.") for p in parts
    }
    towers = {f"{IMAGE_TOWER}{n}" for n in image.state_dict()} | {f"{TEXT_TOWER}{n}" for n in text.state_dict()}
    assert set(tensors) == towers | heads
    num_bytes = sum(value.nbytes for value in tensors.values())
    size = (tuned / "model.safetensors").stat().st_size
    assert (
        num_bytes < size < num_bytes + 1_500_000 and size < 20_000_000
    )  # the header has the tokenizer; MiniLM has 90 MB
    entries = header.architecture["towers"]
    assert (entries["image"]["backbone"], entries["image"]["blocks"]) == ("efficientnet-lite2", 1)
    assert (entries["text"]["backbone"], entries["text"]["layers"], entries["text"]["tuned"]) == ("minilm", 1, True)
    assert (header.meta.kind, header.meta.crops) == ("trunk-1", 2)
    # a step of Adam is about as large as the learning rate
    for prefix, network, lr_scale in ((IMAGE_TOWER, image, IMAGE_LR_SCALE), (TEXT_TOWER, text, TEXT_LR_SCALE)):
        change = torch.cat([(tensors[prefix + n] - v).abs().flatten() for n, v in network.state_dict().items()])
        assert (change > 0).double().mean() > 0.8, prefix
        assert 0.3 * LR * lr_scale < change.max() < 1.5 * STEPS * LR * lr_scale, prefix


def test_each_part_has_its_learning_rate_multiplier(finished):
    expected = {IMAGE_TOWER: IMAGE_LR_SCALE, TEXT_TOWER: TEXT_LR_SCALE, FROZEN_LAYERS: None}
    for name, lr_scale in finished[1].items():
        assert lr_scale == next((s for start, s in expected.items() if name.startswith(start)), 1.0), name
    assert finished[1]["loss.log_scale"] == 1.0
    assert sum(lr_scale is None for lr_scale in finished[1].values()) > 50  # the frozen layers of MiniLM


def test_a_resumed_run_ends_with_the_same_files(shapes, tuned, tmp_path, monkeypatch):
    count = 0
    forward = InfoNCE.forward

    def interrupt(self, scores, positives):
        nonlocal count
        count += 1
        if count == STEPS:  # in the second epoch
            raise KeyboardInterrupt
        return forward(self, scores, positives)

    monkeypatch.setattr(InfoNCE, "forward", interrupt)
    first = train(shapes, tmp_path / "run")
    assert first.interrupted and first.epochs == 1
    second = train(shapes, tmp_path / "run", resume=True)
    assert (second.interrupted, second.epochs) == (False, 2)
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tuned / name).read_bytes(), name
    state = load_file(tuned / "last" / "state.safetensors")
    assert {"model.loss.log_scale", "average.module.loss.log_scale"} <= set(state)
    assert not any("embeddings" in name for name in state)


def test_index_and_search(xmodal, shapes, tuned, tmp_path):
    part = load_dataset(str(shapes)).select("val")
    photos = tmp_path / "photos"
    photos.mkdir()
    for example in part.examples:
        shutil.copy(example.path, photos)
    report = xmodal("index", photos, "--model", tuned, "--index", "tuned", "--device", "cpu", "--json")
    assert report.code == 0, report.err
    assert report.json["items"] == 6 and not report.json["unreadable"]
    result = xmodal("search", "a red circle", "--index", "tuned", "--json")
    assert result.code == 0, result.err
    scores = {Path(hit["path"]).name: hit["score"] for hit in result.json["hits"]}
    loaded = load_matcher(str(tuned), Compute("cpu", "fp32"))
    _, images = embed_images(loaded, part, SILENT)
    expected = images @ loaded.embed_texts(["a red circle"])[0]
    np.testing.assert_allclose([scores[e.path.name] for e in part.examples], expected, atol=0.05)  # indexed in bf16
    uncached = np.stack([vector for _, vector in image_vectors(loaded)([e.path for e in part.examples])])
    np.testing.assert_allclose(uncached, images, atol=2e-3)  # eval reads fp16 features from the cache


def test_info_prints_the_towers(xmodal, tuned):
    result = xmodal("models", "info", tuned)
    assert result.code == 0, result.err
    assert "image tower  efficientnet-lite2, last 1 block fine-tuned" in result.out
    assert "text tower   minilm, last 1 layer fine-tuned" in result.out
    facts = xmodal("models", "info", tuned, "--json").json
    assert set(facts["architecture"]["towers"]) == {"image", "text"}


def test_a_run_can_be_the_initial_model(shapes, tuned, tmp_path):
    no_training = ("training.epochs=1", "optimizer.lr=1e-60", "training.ema=0")
    result = train(shapes, tmp_path / "run", *no_training, init_from=str(tuned))
    assert {k: v for k, v in result.metrics.items() if k != "epoch"} == best_metrics(tuned)
    before, after = read_tensors(tuned / "model.safetensors"), read_tensors(tmp_path / "run" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_initialization_with_other_layers_is_an_error(shapes, tuned, tmp_path):
    with pytest.raises(ConfigError, match="does not fit this preset"):
        train(shapes, tmp_path / "run", "optimizer.text_tower_lr_scale=0", init_from=str(tuned))


def test_tuned_weights_are_not_loaded_into_a_frozen_tower():
    """They would not be saved, so that the layers above would later run on other weights."""

    def build_encoder(is_tuned):
        return EncoderOnTower(nn.Linear(2, 2), nn.Linear(2, 2), is_tuned)

    tuned, frozen = build_encoder(True), build_encoder(False)
    weight = frozen.tower.weight.clone()
    with pytest.raises(RuntimeError, match=r"unexpected: \['tower.bias', 'tower.weight'\]"):
        load_trainable_state_dict(frozen, trainable_state_dict(tuned))
    assert torch.equal(frozen.tower.weight, weight)


@pytest.mark.parametrize("side", ["image", "text"])
def test_other_pretrained_weights_are_an_error(tuned, tmp_path, side):
    header = read_header(tuned / "model.safetensors")
    header.architecture["towers"][side]["fingerprint"] = "f" * 64
    write_model(tmp_path / "m.safetensors", header, read_tensors(tuned / "model.safetensors"))
    with pytest.raises(IncompatibleFeatures, match="has other weights here than when m was trained") as error:
        load_matcher(str(tmp_path / "m.safetensors"), Compute("cpu"))
    assert "ffffffffffffffff" in error.value.hint


def test_a_file_without_a_tower_is_an_error(tuned, tmp_path):
    tensors = read_tensors(tuned / "model.safetensors")
    remaining = {name: value for name, value in tensors.items() if not name.startswith(TEXT_TOWER)}
    write_model(tmp_path / "m.safetensors", read_header(tuned / "model.safetensors"), remaining)
    with pytest.raises(BadModel, match="do not match its header"):
        load_matcher(str(tmp_path / "m.safetensors"), Compute("cpu"))


def test_fine_tuning_all_layers_from_pixels(xmodal, tmp_path):
    shapes = make_shapes(tmp_path / "set", num_train=3, num_val=2, num_test=0)  # slow on a CPU
    settings = ("features.tuned_blocks=0", "features.crops=1", "optimizer.text_tower_lr_scale=0", "training.ema=0")
    result = train(shapes, tmp_path / "run", *settings, "training.epochs=1", preset="two-heads")
    assert result.epochs == 1 and flatten(evaluate(xmodal, tmp_path / "run", shapes)) == best_metrics(tmp_path / "run")
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert (header.meta.kind, header.meta.backbone) == ("pixels", "efficientnet-lite2")
    tensors = read_tensors(tmp_path / "run" / "model.safetensors")
    assert not any(name.startswith(FROZEN_LAYERS) for name in tensors)  # MiniLM is frozen
    stem = tensors[f"{IMAGE_TOWER}network.0.weight"]
    change = (stem - build_network("efficientnet-lite2")[0].network[0].weight).abs().max()
    assert 0 < change < 1.5 * 2 * LR * IMAGE_LR_SCALE
    assert "image tower  efficientnet-lite2, fine-tuned" in xmodal("models", "info", tmp_path / "run").out
    assert "text tower   minilm, frozen" in xmodal("models", "info", tmp_path / "run").out


@pytest.mark.parametrize(
    ("preset", "change", "message", "hint"),
    [
        ("best-offline", "features.tuned_blocks=0", "pixels need crops=1, not 2", "crops to 1"),
        ("best-offline", "text.tuned_layers=6", "minilm has 6 layers", "1 to 5"),
        ("best-offline", "text.backbone=", "text.backbone is empty", "text.backbone=minilm"),
        ("best-offline", "augmentation.min_area=0", "min_area must be above 0 and at most 1", "default is 0.6"),
        ("two-heads", "text.tuned_layers=0", "has precomputed features", "image_tower_lr_scale to 0"),
        ("best-offline", "text.tuned_layers=1", "has precomputed features", "image_tower_lr_scale to 0"),
    ],
)
def test_invalid_settings_are_errors_and_create_no_run(shapes, tmp_path, preset, change, message, hint):
    data = shapes
    if "precomputed features" in message:
        data = tmp_path / "toy"
        data.mkdir()
        for split in ("train", "dev", "test"):
            np.save(data / f"toy_{split}_ims.npy", np.ones((2, 3), np.float32))
            (data / f"toy_{split}_caps.txt").write_text("a dog\n" * 10)
    more = (
        ["features.tuned_blocks=0", "features.crops=1", "optimizer.text_tower_lr_scale=0"]
        if preset == "two-heads"
        else []
    )
    with pytest.raises((ConfigError, IncompatibleFeatures), match=message) as error:
        train(data, tmp_path / "run", *more, change, preset=preset)
    assert hint in error.value.hint
    assert not (tmp_path / "run").exists()
