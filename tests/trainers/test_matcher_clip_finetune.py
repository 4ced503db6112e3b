"""``clip-finetune`` on a tiny open_clip model: from pixels or with a locked tower, and never below its own start."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xmodal_cli.config import load_config
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.inference.encoding import embed_images, image_vectors
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.losses.infonce import InfoNCE
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.recipes.train import train_model
from xmodal_cli.reporter import SILENT
from xmodal_cli.trainers import matcher

TINY = (
    "training.epochs=2",
    "training.batch_size=30",
    "training.patience=0",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
    "schedule.warmup_steps=0",
    "augmentation.jitter=0.1",
)
IMAGE, TEXT = "image_encoder.tower.network.", "text_encoder.tower.network.text."


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=12, num_val=10, num_test=0)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr("xmodal_cli.recipes.train.draw_curves", lambda run: None)


def train(shapes, run, name, *settings, **how):
    config = load_config("clip-finetune", [*TINY, f"features.backbone={name}", *settings])
    return train_model(config, str(shapes), run, **how)


def history(run):
    return json.loads((run / "metrics.json").read_text())["history"]


def compute_metrics(xmodal, model, shapes):
    """What ``eval`` finds on val, under the names of ``metrics.json``."""
    args = ["--data", shapes, "--split", "val", "--device", "cpu", "--precision", "fp32", "--json"]
    outcome = xmodal("eval", model, *args)
    assert outcome.code == 0, outcome.err
    sides = ("image_to_text", "text_to_image")
    found = {f"{side} {key}": value for side in sides for key, value in outcome.json[side].items()}
    return {**found, "rsum": outcome.json["rsum"]}


def own(run, name):
    """What a run's file holds of each tower, and what it started from."""
    tensors, start = read_tensors(run / "model.safetensors"), load_file(name.partition("@")[2])
    sides = {"image": (IMAGE, "visual."), "text": (TEXT, "")}
    return {
        side: [
            (value, start[theirs + key.removeprefix(ours)]) for key, value in tensors.items() if key.startswith(ours)
        ]
        for side, (ours, theirs) in sides.items()
    }


def test_it_is_never_worse_than_its_zero_shot_model(xmodal, tiny_clip, shapes, tmp_path, monkeypatch):
    name, _ = tiny_clip("worse")
    seen = []

    def later_is_worse(result):  # on so few random images, training could improve by chance
        seen.append(flatten(result))
        return seen[0] if len(seen) == 1 else {**seen[-1], "rsum": seen[-1]["rsum"] / 1e3}

    flatten = matcher.flatten
    monkeypatch.setattr(matcher, "flatten", later_is_worse)
    result = train(shapes, tmp_path / "run", name, "optimizer.lr=10")
    zero_shot = compute_metrics(xmodal, name, shapes)
    first, *later = history(tmp_path / "run")
    assert first == {"epoch": 0, **zero_shot}
    assert [h["epoch"] for h in later] == [1, 2]
    assert seen[1] != seen[0]
    assert result.best_epoch == 0 and result.metrics == first
    assert compute_metrics(xmodal, tmp_path / "run", shapes) == zero_shot
    for pairs in own(tmp_path / "run", name).values():
        assert pairs and all(torch.equal(value, start) for value, start in pairs)


def test_it_learns_from_pixels_and_everything_can_use_it(xmodal, tiny_clip, shapes, tmp_path, home):
    name, _ = tiny_clip("learns")
    run = home / "runs" / "mine"
    result = train(shapes, run, name, "optimizer.lr=0.002", "training.eval_initial=false")
    assert history(run)[0]["epoch"] == 1 and result.epochs == 2
    header = read_header(run / "model.safetensors")
    assert (header.meta.kind, header.meta.backbone, header.architecture["embed_dim"]) == ("pixels", name, 24)
    assert compute_metrics(xmodal, "mine", shapes) == {k: v for k, v in result.metrics.items() if k != "epoch"}
    for pairs in own(run, name).values():
        assert pairs and sum(not torch.equal(value, start) for value, start in pairs) > len(pairs) / 2
    shown = xmodal("models", "info", "mine").out
    assert f"image tower  {name}, fine-tuned" in shown and f"text tower   {name}, fine-tuned" in shown

    part = load_dataset(str(shapes)).select("val")
    loaded = load_matcher("mine", Compute("cpu", "fp32"))
    _, by_eval = embed_images(loaded, part, SILENT)
    files = [e.path for e in part.examples]
    by_index = np.stack([vector for _, vector in image_vectors(loaded)(files)])
    np.testing.assert_allclose(by_index, by_eval, atol=1e-4)
    args = ["--model", "mine", "--split", "val", "--out", tmp_path / "v.npz", "--device", "cpu", "--precision", "fp32"]
    assert xmodal("features", shapes, *args).code == 0
    kept = np.load(tmp_path / "v.npz")
    np.testing.assert_allclose(kept["images"], by_eval, atol=1e-4)
    np.testing.assert_allclose(kept["texts"], loaded.embed_texts(part.captions), atol=1e-4)
    report = xmodal("index", shapes / "images", "--model", "mine", "--device", "cpu", "--json")
    assert report.code == 0 and report.json["items"] == 22, report.err
    hits = {
        Path(h["path"]): h["score"]
        for h in xmodal("search", part.captions[0], "-k", "22", "--all", "--json").json["hits"]
    }
    expected = by_eval @ loaded.embed_texts(part.captions[:1])[0]
    np.testing.assert_allclose([hits[file] for file in files], expected, atol=0.02)  # indexed in bf16 where it can be
    by_image = xmodal("search", files[0], "-k", "1", "--json").json["hits"]
    assert Path(by_image[0]["path"]) == files[0] and by_image[0]["score"] == pytest.approx(1, abs=1e-3)

    train(shapes, tmp_path / "more", name, "optimizer.lr=1e-60", "training.epochs=1", init_from="mine")
    start, after = history(tmp_path / "more")
    assert {**start, "epoch": result.best_epoch} == result.metrics
    assert {**after, "epoch": 0} == start


def test_a_resumed_run_ends_with_the_same_metrics(tiny_clip, shapes, tmp_path, monkeypatch):
    name, _ = tiny_clip("resumed")
    settings = ("optimizer.lr=0.001", "loss.args.temperature=0.05")
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(shapes, whole, name, *settings)
    count, forward = 0, InfoNCE.forward

    def interrupted(self, scores, positives):
        nonlocal count
        count += 1
        if count == 4:  # in the second epoch of two batches each
            raise KeyboardInterrupt
        return forward(self, scores, positives)

    monkeypatch.setattr(InfoNCE, "forward", interrupted)
    assert train(shapes, part, name, *settings).interrupted
    train(shapes, part, name, *settings, resume=True)
    for file in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (part / file).read_bytes() == (whole / file).read_bytes(), file
    scale = load_file(whole / "last" / "state.safetensors")["model.loss.log_scale"].exp()
    assert scale != pytest.approx(20) and scale < 21  # it is learned, from 1 / 0.05 on


@pytest.mark.parametrize("locked", ["image", "text"])
def test_a_locked_tower_is_run_once_and_stays(xmodal, tiny_clip, shapes, tmp_path, home, locked):
    name, _ = tiny_clip(f"locked-{locked}")
    train(
        shapes,
        tmp_path / "run",
        name,
        f"optimizer.{locked}_tower_lr_scale=0",
        "optimizer.lr=0.01",
        "training.eval_initial=false",
    )
    tower_weights = own(tmp_path / "run", name)
    other = "text" if locked == "image" else "image"
    assert not tower_weights[locked] and any(not torch.equal(value, start) for value, start in tower_weights[other])
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header.meta.kind == ("global" if locked == "image" else "pixels")
    assert bool(list((home / "cache").glob("features/*"))) == (locked == "image")
    assert bool(list((home / "cache").glob("text/*"))) == (locked == "text")
    best = json.loads((tmp_path / "run" / "metrics.json").read_text())["best"]
    assert compute_metrics(xmodal, tmp_path / "run", shapes) == {k: v for k, v in best.items() if k != "epoch"}
    loaded, start = (
        load_matcher(str(tmp_path / "run"), Compute("cpu", "fp32")),
        load_matcher(name, Compute("cpu", "fp32")),
    )
    part = load_dataset(str(shapes)).select("val")
    vectors = {
        side: [embed(matcher) for matcher in (loaded, start)]
        for side, embed in (
            ("image", lambda m: embed_images(m, part, SILENT)[1]),
            ("text", lambda m: m.embed_texts(part.captions)),
        )
    }
    np.testing.assert_allclose(*vectors[locked], atol=1e-3)
    assert np.abs(np.subtract(*vectors[other])).max() > 0.01

    file = Path(name.partition("@")[2])
    save_file({key: value * 2 for key, value in load_file(file).items()}, file)
    with pytest.raises(IncompatibleFeatures, match="other weights"):
        image_vectors(load_matcher(str(tmp_path / "run"), Compute("cpu", "fp32")))
    outcome = xmodal("eval", tmp_path / "run", "--data", shapes, "--split", "val")
    assert outcome.code == 1 and "other weights" in outcome.err


def test_the_backbone_flag_switches_both_towers(xmodal, tiny_clip, shapes, tmp_path):
    name, _ = tiny_clip("flag")
    settings = [part for setting in (*TINY, "training.epochs=1") for part in ("--set", setting)]
    args = ["train", "--model", "clip-finetune", "--data", shapes, "--out", tmp_path / "run", *settings]
    done = xmodal(*args, "--backbone", name, "--json")
    assert done.code == 0, done.err
    towers = read_header(tmp_path / "run" / "model.safetensors").architecture["towers"]
    assert towers["image"]["backbone"] == towers["text"]["backbone"] == name
    assert towers["image"]["fingerprint"] == towers["text"]["fingerprint"]


def test_without_weights_and_network_it_is_one_sentence(xmodal, shapes, tmp_path, monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise socket.gaierror("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    done = xmodal("train", "--model", "clip-finetune", "--data", shapes, "--out", tmp_path / "run")
    assert (done.code, done.out) == (1, "")
    error, hint = done.err.strip().splitlines()
    assert error.startswith("error: ") and "cannot be reached" in error
    assert hint.startswith("hint: ") and "@FILE" in hint
    assert not (tmp_path / "run").exists()
