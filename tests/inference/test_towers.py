"""Matchers whose pretrained networks are trained along: the last layers of both over a cached trunk, or from pixels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from xmodal_cli.backbones.image_backbones import build_network, build_upper
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.config import load_config
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.shapes import make_shapes
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

LR, STEPS, IMAGE_SHARE, TEXT_SHARE = 0.002, 4, 0.1, 0.05  # two epochs of two batches
TINY = (
    "model.embed_dim=32",
    "features.tuned_blocks=1",
    "text.tuned_layers=1",
    f"optimizer.lr={LR}",
    f"optimizer.image_tower_lr_scale={IMAGE_SHARE}",
    f"optimizer.text_tower_lr_scale={TEXT_SHARE}",
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
IMAGE_TOWER, TEXT_TOWER, LOWER = "image_encoder.tower.", "text_encoder.encoder.tower.", "text_encoder.tower."


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A home for all tests of this file, so that what frozen networks make is computed once."""
    return tmp_path_factory.mktemp("shared-home")


@pytest.fixture(autouse=True)
def in_shared_home(home, shared, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(shared))
    monkeypatch.setattr(recipe, "draw_curves", lambda run: None)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=8, num_val=6, num_test=0)


def train(shapes, run, *settings, preset="best-offline", **how):
    return train_model(load_config(preset, [*TINY, *settings]), str(shapes), run, **how)


@pytest.fixture(scope="module")
def finished(shapes, shared, tmp_path_factory):
    """A finished run of best-offline, and each parameter's learning-rate multiplier. Read it, do not write to it."""
    run, shares = tmp_path_factory.mktemp("runs") / "tuned", {}

    def watched(self, config, model):
        optimizer = build_optimizer(self, config, model)
        of = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
        shares.update({name.removeprefix("model."): of.get(id(p)) for name, p in model.named_parameters()})
        return optimizer

    build_optimizer = MatcherObjective.build_optimizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(shared))
        patch.setattr(MatcherObjective, "build_optimizer", watched)
        train(shapes, run)
    return run, shares


@pytest.fixture
def tuned(finished):
    return finished[0]


def evaluate(xmodal, run, shapes):
    outcome = xmodal(
        "eval", run, "--data", shapes, "--split", "val", "--device", "cpu", "--precision", "fp32", "--json"
    )
    assert outcome.code == 0, outcome.err
    return outcome.json


def flat(result):
    """The figures of ``eval --json`` under the names of ``metrics.json``."""
    sides = ("image_to_text", "text_to_image")
    found = {f"{side} {name}": value for side in sides for name, value in result[side].items()}
    return {**found, "rsum": result["rsum"]}


def best(run):
    kept = json.loads((run / "metrics.json").read_text())["best"]
    return {name: value for name, value in kept.items() if name != "epoch"}


def test_eval_reproduces_the_figures_of_training(xmodal, shapes, tuned):
    found = flat(evaluate(xmodal, tuned, shapes))
    assert found == best(tuned)
    assert read_header(tuned / "model.safetensors").metrics["rsum"] == found["rsum"]


def test_the_file_holds_what_was_trained_and_nothing_else(tuned):
    tensors, header = read_tensors(tuned / "model.safetensors"), read_header(tuned / "model.safetensors")
    image, text = build_upper("efficientnet-lite2", "grid", 1)[0], build_text_backbone("minilm", 1).upper
    parts = [f"{side}.project.{part}" for side in ("image", "text") for part in ("weight", "bias")]
    heads = {
        p.replace("image.", "image_encoder.encoder.").replace("text.", "text_encoder.encoder.encoder.") for p in parts
    }
    towers = {f"{IMAGE_TOWER}{n}" for n in image.state_dict()} | {f"{TEXT_TOWER}{n}" for n in text.state_dict()}
    assert set(tensors) == towers | heads
    held = sum(value.nbytes for value in tensors.values())
    size = (tuned / "model.safetensors").stat().st_size
    assert held < size < held + 1_500_000 and size < 20_000_000  # the header has the tokenizer; MiniLM has 90 MB
    found = header.architecture["towers"]
    assert (found["image"]["backbone"], found["image"]["blocks"]) == ("efficientnet-lite2", 1)
    assert (found["text"]["backbone"], found["text"]["layers"], found["text"]["tuned"]) == ("minilm", 1, True)
    assert (header.meta.kind, header.meta.crops) == ("trunk-1", 2)
    # a step of Adam's is about the learning rate long: towers have moved, by their share of it
    for prefix, network, share in ((IMAGE_TOWER, image, IMAGE_SHARE), (TEXT_TOWER, text, TEXT_SHARE)):
        moved = torch.cat([(tensors[prefix + n] - v).abs().flatten() for n, v in network.state_dict().items()])
        assert (moved > 0).double().mean() > 0.8, prefix
        assert 0.3 * LR * share < moved.max() < 1.5 * STEPS * LR * share, prefix


def test_each_part_has_its_share_of_the_learning_rate(finished):
    wanted = {IMAGE_TOWER: IMAGE_SHARE, TEXT_TOWER: TEXT_SHARE, LOWER: None}
    for name, share in finished[1].items():
        assert share == next((s for start, s in wanted.items() if name.startswith(start)), 1.0), name
    assert finished[1]["loss.log_scale"] == 1.0
    assert sum(share is None for share in finished[1].values()) > 50  # the lower layers of MiniLM


def test_a_resumed_run_ends_with_the_same_figures(shapes, tuned, tmp_path, monkeypatch):
    count = 0
    forward = InfoNCE.forward

    def interrupted(self, scores, positives):
        nonlocal count
        count += 1
        if count == STEPS:  # in the second epoch
            raise KeyboardInterrupt
        return forward(self, scores, positives)

    monkeypatch.setattr(InfoNCE, "forward", interrupted)
    first = train(shapes, tmp_path / "run")
    assert first.interrupted and first.epochs == 1
    second = train(shapes, tmp_path / "run", resume=True)
    assert (second.interrupted, second.epochs) == (False, 2)
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tuned / name).read_bytes(), name
    state = read_tensors(tuned / "last" / "state.safetensors")
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
    found = xmodal("search", "a red circle", "--index", "tuned", "--json")
    assert found.code == 0, found.err
    scores = {Path(hit["path"]).name: hit["score"] for hit in found.json["hits"]}
    loaded = load_matcher(str(tuned), "cpu", "fp32")
    _, images = embed_images(loaded, part, "fp32", SILENT)
    expected = images @ loaded.embed_texts(["a red circle"])[0]
    np.testing.assert_allclose([scores[e.path.name] for e in part.examples], expected, atol=0.05)  # indexed in bf16
    exact = np.stack([vector for _, vector in image_vectors(loaded)([e.path for e in part.examples])])
    np.testing.assert_allclose(exact, images, atol=2e-3)  # those of eval stand on 16 bits of the cache


def test_info_names_the_towers(xmodal, tuned):
    shown = xmodal("models", "info", tuned)
    assert shown.code == 0, shown.err
    assert "image tower  efficientnet-lite2, the last 1 of its blocks trained" in shown.out
    assert "text tower   minilm, the last 1 of its layers trained" in shown.out
    facts = xmodal("models", "info", tuned, "--json").json
    assert set(facts["architecture"]["towers"]) == {"image", "text"}


def test_training_goes_on_from_a_run(shapes, tuned, tmp_path):
    steady = ("training.epochs=1", "optimizer.lr=0", "training.ema=0")
    more = train(shapes, tmp_path / "run", *steady, init_from=str(tuned))
    assert {k: v for k, v in more.metrics.items() if k != "epoch"} == best(tuned)
    before, after = read_tensors(tuned / "model.safetensors"), read_tensors(tmp_path / "run" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_does_not_go_on_with_other_layers(shapes, tuned, tmp_path):
    with pytest.raises(ConfigError, match="does not fit this preset"):
        train(shapes, tmp_path / "run", "optimizer.text_tower_lr_scale=0", init_from=str(tuned))


def test_tuned_weights_do_not_become_a_frozen_towers():
    """They would not be in the file that is written; what is trained above them would later stand on others."""

    def tower(is_tuned):
        return EncoderOnTower(nn.Linear(2, 2), nn.Linear(2, 2), is_tuned)

    before, trained = tower(True), tower(False)
    weight = trained.tower.weight.clone()
    with pytest.raises(RuntimeError, match=r"unexpected: \['tower.bias', 'tower.weight'\]"):
        load_trainable_state_dict(trained, trainable_state_dict(before))
    assert torch.equal(trained.tower.weight, weight)


@pytest.mark.parametrize("side", ["image", "text"])
def test_other_pretrained_weights_are_noticed(tuned, tmp_path, side):
    header = read_header(tuned / "model.safetensors")
    header.architecture["towers"][side]["fingerprint"] = "f" * 64
    write_model(tmp_path / "m.safetensors", header, read_tensors(tuned / "model.safetensors"))
    with pytest.raises(IncompatibleFeatures, match="has other weights here than when m was trained") as caught:
        load_matcher(str(tmp_path / "m.safetensors"), "cpu")
    assert "ffffffffffffffff" in caught.value.hint


def test_a_file_without_its_tower_is_told(tuned, tmp_path):
    tensors = read_tensors(tuned / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith(TEXT_TOWER)}
    write_model(tmp_path / "m.safetensors", read_header(tuned / "model.safetensors"), kept)
    with pytest.raises(BadModel, match="does not hold the weights its header promises"):
        load_matcher(str(tmp_path / "m.safetensors"), "cpu")


def test_the_whole_network_from_pixels(xmodal, tmp_path):
    shapes = make_shapes(tmp_path / "set", num_train=3, num_val=2, num_test=0)  # slow on a CPU
    settings = ("features.tuned_blocks=0", "features.crops=1", "optimizer.text_tower_lr_scale=0", "training.ema=0")
    made = train(shapes, tmp_path / "run", *settings, "training.epochs=1", preset="two-heads")
    assert made.epochs == 1 and flat(evaluate(xmodal, tmp_path / "run", shapes)) == best(tmp_path / "run")
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert (header.meta.kind, header.meta.backbone) == ("pixels", "efficientnet-lite2")
    tensors = read_tensors(tmp_path / "run" / "model.safetensors")
    assert not any(name.startswith(LOWER) for name in tensors)  # MiniLM stays as it came
    stem = tensors[f"{IMAGE_TOWER}network.0.weight"]
    moved = (stem - build_network("efficientnet-lite2")[0].network[0].weight).abs().max()
    assert 0 < moved < 1.5 * 2 * LR * IMAGE_SHARE
    assert "image tower  efficientnet-lite2, all of it trained" in xmodal("models", "info", tmp_path / "run").out
    assert "text tower   minilm, as it came" in xmodal("models", "info", tmp_path / "run").out


@pytest.mark.parametrize(
    ("preset", "change", "sentence", "hint"),
    [
        ("best-offline", "features.tuned_blocks=0", "pixels need crops=1, not 2", "crops to 1"),
        ("best-offline", "text.tuned_layers=6", "minilm has 6 layers", "1 to 5"),
        ("best-offline", "text.backbone=", "there is none", "text.backbone=minilm"),
        (
            "best-offline",
            "augmentation.min_area=0",
            "augmentation.min_area must be above 0 and at most 1",
            "default is 0.6",
        ),
        ("two-heads", "text.tuned_layers=0", "carries its own features", "image_tower_lr_scale to 0"),
        ("best-offline", "text.tuned_layers=1", "carries its own features", "image_tower_lr_scale to 0"),
    ],
)
def test_what_cannot_be_trained_is_told_and_leaves_no_run(shapes, tmp_path, preset, change, sentence, hint):
    data = shapes
    if "its own features" in sentence:
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
    with pytest.raises((ConfigError, IncompatibleFeatures), match=sentence) as caught:
        train(data, tmp_path / "run", *more, change, preset=preset)
    assert hint in caught.value.hint
    assert not (tmp_path / "run").exists()
