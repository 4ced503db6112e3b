"""Taggers are trained from the settings to the file: on image features that are the sum of two things."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.planted_words import THINGS
from helpers.tag_fixtures import SMALL_TAGGER

from xmodal_cli.config import load_config
from xmodal_cli.errors import BadData, BadModel, ConfigError, UnknownName
from xmodal_cli.inference.taggers import load_tagger
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.recipes import train as recipe
from xmodal_cli.recipes.train import train_model


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr(recipe, "draw_curves", lambda run: None)


def train(planted: Path, run: Path, *settings: str, **how):
    return train_model(load_config("tagger", [*SMALL_TAGGER, *settings]), str(planted), run, **how)


def test_it_learns_which_things_are_there(trained_tagger):
    header = read_header(trained_tagger / "model.safetensors")
    assert (header.kind, header.similarity) == ("tagger", "")
    assert set(THINGS) <= set(header.architecture["tags"])
    assert (
        header.architecture["vocab_size"]
        == len(header.architecture["tags"])
        == len(load_tagger(str(trained_tagger)).tags)
    )
    metrics = json.loads((trained_tagger / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["best"]["map"] == header.metrics["map"] == max(h["map"] for h in metrics["history"])
    assert metrics["history"][0]["map"] < metrics["best"]["map"]
    assert metrics["best"]["recall_at_5"] > 0.9


def test_the_same_seed_gives_the_same_and_resuming_too(planted, tmp_path):
    for run, epochs in (("whole", 3), ("again", 3), ("parts", 1)):
        train(planted, tmp_path / run, f"training.epochs={epochs}", "schedule.name=constant")
    train(planted, tmp_path / "parts", "training.epochs=3", "schedule.name=constant", resume=True)
    whole, again, parts = ((tmp_path / run / "metrics.json").read_bytes() for run in ("whole", "again", "parts"))
    assert whole == again == parts
    tensors = [read_tensors(tmp_path / run / "model.safetensors") for run in ("whole", "parts")]
    assert all(value.equal(tensors[1][name]) for name, value in tensors[0].items())


@pytest.mark.parametrize(
    "options", [("loss.name=asymmetric", "model.args.pooling=gpo"), ("tagging.soft_targets=true", "training.ema=0.9")]
)
def test_other_losses_and_targets_learn_too(planted, tmp_path, options):
    assert train(planted, tmp_path / "run", *options).metrics["recall_at_5"] > 0.9


def test_initializing_takes_over_the_tags_and_the_weights(planted, trained_tagger, tmp_path):
    settings = ("tagging.num_tags=2", "training.eval_initial=true", "training.epochs=1", "optimizer.lr=1e-9")
    train(planted, tmp_path / "run", *settings, init_from=str(trained_tagger))
    first, second = (read_header(run / "model.safetensors") for run in (trained_tagger, tmp_path / "run"))
    assert second.architecture["tags"] == first.architecture["tags"]
    history = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["history"]
    assert history[0]["map"] == pytest.approx(first.metrics["map"])


def test_only_a_tagger_initializes_a_tagger(planted, trained, tmp_path):
    with pytest.raises(BadModel, match="is a matcher, not a tagger"):
        train(planted, tmp_path / "run", init_from=str(trained))


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ("model.name=pooled", UnknownName, "tagger"),
        ("loss.name=triplet", UnknownName, "tag loss"),
        ("warmup.epochs=1", ConfigError, "warm-up"),
        ("optimizer.image_tower_lr_scale=0.1", ConfigError, "cached trunk"),
        ("tagging.min_images=100000", BadData, "training images"),
        ("model.args.pooling=nothing", UnknownName, "pooling"),
    ],
)
def test_settings_that_cannot_be_trained(planted, tmp_path, setting, error, match):
    with pytest.raises(error, match=match):
        train(planted, tmp_path / "run", setting)
    assert not (tmp_path / "run").exists()


def test_tags_are_those_of_the_train_splits_only(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    for split, word, size in (("train", "dog", 12), ("dev", "zebra", 40), ("test", "zebra", 40)):
        np.save(folder / f"toy_{split}_ims.npy", np.random.default_rng(0).normal(size=(size, 4)).astype(np.float32))
        (folder / f"toy_{split}_caps.txt").write_text(f"a {word}\n" * size, encoding="utf-8")
    result = train(folder, tmp_path / "run", "training.epochs=1")
    assert read_header(result.model).architecture["tags"] == ["dog"]
    assert result.metrics["map"] == 0  # no val image has it
