"""Captioners are trained from the settings to the file: on images of two things that every caption names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli import catalog
from xmodal_cli.config import load_config
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures, UnknownName
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.recipes import train as recipe
from xmodal_cli.recipes.evaluate_captions import score_captioners
from xmodal_cli.recipes.train import train_model

THINGS = ("dog", "ball", "kite", "boat", "horse", "drum")
FORMS = ("a {} next to a {}", "there is a {} and a {}", "the {} is beside the {}")
PRESETS = [name for name in catalog.names("preset") if load_config(name).kind == "captioner"]
SMALL = (
    "features.kind=global",
    "model.embed_dim=64",
    "data.min_word_count=1",
    "training.epochs=8",
    "training.batch_size=24",
    "training.patience=0",
    "training.ema=0",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
    "optimizer.lr=0.002",
    "schedule.name=constant",
    "schedule.warmup_steps=0",
    "decoding.max_length=10",
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "toy"
    folder.mkdir()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(THINGS), 16))
    for split, size in (("train", 90), ("dev", 20), ("test", 20)):
        features, captions = [], []
        for _ in range(size):
            pair = rng.choice(len(THINGS), 2, replace=False)
            features.append(vectors[pair].sum(0) + 0.05 * rng.normal(size=16))
            captions += [form.format(*(THINGS[n] for n in rng.permutation(pair))) for form in FORMS]
        np.save(folder / f"toy_{split}_ims.npy", np.array(features, np.float32))
        (folder / f"toy_{split}_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def no_curves_and_no_java(monkeypatch):
    monkeypatch.setattr(recipe, "draw_curves", lambda run: None)
    monkeypatch.setenv("PATH", "")  # METEOR takes seconds, and has tests of its own


def train(planted: Path, run: Path, *settings: str, preset: str = "transformer", **how):
    return train_model(load_config(preset, [*SMALL, *settings]), str(planted), run, **how)


@pytest.fixture(scope="module")
def finished(planted, tmp_path_factory) -> Path:
    """A finished run of ``transformer``; read it, do not write to it."""
    run = tmp_path_factory.mktemp("runs") / "toy-captioner"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "draw_curves", lambda run: None)
        train(planted, run)
    return run


@pytest.mark.parametrize("preset", PRESETS)
def test_every_captioner_learns_to_name_what_is_there(planted, tmp_path, preset):
    run = tmp_path / "run"
    result = train(planted, run, preset=preset)
    header = read_header(run / "model.safetensors")
    assert (header.kind, header.similarity) == ("captioner", "")
    assert header.metrics["cider"] == result.metrics["cider"]
    metrics = score_captioners([str(run)], str(planted), "test").result
    assert metrics.images == 20
    assert metrics.beam == load_config(preset).decoding.beam
    assert metrics.scores["cider"] > 1  # at most 10; captions of another image have about 0.5
    assert metrics.scores["bleu_4"] > 0.3
    assert metrics.scores["meteor"] is None
    assert "Java" in metrics.unavailable["meteor"]


def test_the_metrics_of_a_run(planted, finished):
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["best"]["cider"] == max(h["cider"] for h in metrics["history"])
    assert metrics["history"][0]["cider"] < metrics["best"]["cider"]
    assert load_captioner(str(finished)).decoding.max_length == 10


def test_the_same_seed_gives_the_same_and_resuming_too(planted, tmp_path):
    for run, epochs in (("whole", 3), ("again", 3), ("parts", 1)):
        train(planted, tmp_path / run, f"training.epochs={epochs}")
    train(planted, tmp_path / "parts", "training.epochs=3", resume=True)
    whole, again, parts = ((tmp_path / run / "metrics.json").read_bytes() for run in ("whole", "again", "parts"))
    assert whole == again == parts


def test_scheduled_sampling_one_caption_and_tags_train_too(planted, tmp_path):
    options = ("captioning.scheduled_sampling=0.5", "captioning.one_caption_per_image=true", "captioning.tag_prob=0.5")
    result = train(planted, tmp_path / "run", *options, "training.epochs=12", "training.batch_size=8")
    assert result.metrics["cider"] > 1


def test_self_critical_training_improves_on_its_initial_model(planted, tmp_path):
    start = train(planted, tmp_path / "start", "training.epochs=2")
    more = ("loss.name=self-critical", "training.eval_initial=true", "optimizer.lr=0.001", "training.epochs=3")
    result = train(planted, tmp_path / "sc", *more, init_from=str(tmp_path / "start"))
    history = json.loads((tmp_path / "sc" / "metrics.json").read_text(encoding="utf-8"))["history"]
    assert history[0]["cider"] == pytest.approx(start.metrics["cider"])
    assert result.metrics["cider"] > start.metrics["cider"]


def test_the_greedy_baseline_and_bleu_train_too(planted, finished, tmp_path):
    args = "{source='drawn', baseline='greedy', bleu_weight=0.5, count_eos=false}"
    more = ("loss.name=self-critical", f"loss.args={args}")
    steps = ("training.eval_initial=true", "training.epochs=1", "optimizer.lr=0.0001")
    result = train(planted, tmp_path / "sc", *more, *steps, init_from=str(finished))
    assert result.metrics["cider"] > 1


def test_several_captioners_are_an_ensemble(planted, finished, tmp_path):
    train(planted, tmp_path / "other", "training.seed=1", preset="show-attend-tell")
    both = score_captioners([str(finished), str(tmp_path / "other")], str(planted), "test").result
    assert both.model == "toy-captioner + other"
    assert both.scores["cider"] > 2


def test_captioners_of_different_vocabularies_cannot_be_an_ensemble(planted, finished, tmp_path):
    train(planted, tmp_path / "other", "training.epochs=1", "data.min_word_count=100")
    with pytest.raises(ConfigError, match="different vocabularies"):
        score_captioners([str(finished), str(tmp_path / "other")], str(planted), "test")


def test_a_captioner_cannot_be_loaded_as_a_matcher(finished):
    with pytest.raises(Exception, match="is a captioner, not a matcher"):
        load_matcher(str(finished))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("kind=poet", "kind must be matcher, captioner or tagger"),
        ("model.name=vse", "captioner"),
        ("loss.name=triplet", "caption loss"),
        ("captioning.language_model=gpt2", "no language model"),
        ("warmup.epochs=2", "warm-up"),
        ("optimizer.image_tower_lr_scale=0.1", "needs images"),
    ],
)
def test_invalid_settings_are_errors_before_anything_is_written(planted, tmp_path, setting, message):
    with pytest.raises((ConfigError, UnknownName, IncompatibleFeatures), match=message):
        train(planted, tmp_path / "run", setting)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("captioning.tag_prob=0.5", "self-critical training generates captions without tags"),
        ("captioning.scheduled_sampling=0.2", "self-critical training has no scheduled sampling"),
    ],
)
def test_self_critical_training_refuses_settings_that_have_no_effect(planted, tmp_path, setting, message):
    with pytest.raises(ConfigError, match=message):
        train(planted, tmp_path / "run", "loss.name=self-critical", setting)
    assert not (tmp_path / "run").exists()


def test_the_file_holds_every_weight(finished):
    loaded = load_captioner(str(finished))
    tensors = read_tensors(finished / "model.safetensors")
    assert set(tensors) == set(loaded.model.state_dict())


def test_the_image_tower_is_trained_in_a_second_stage(tmp_path_factory, tmp_path):
    shapes = make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=8, num_val=4, num_test=0)
    grid = ("features.backbone=efficientnet-lite2", "features.kind=grid", "training.epochs=1")
    train(shapes, tmp_path / "first", *grid)
    tuned = ("features.tuned_blocks=1", "optimizer.image_tower_lr_scale=0.1", "training.eval_initial=true")
    result = train(shapes, tmp_path / "second", *grid, *tuned, init_from=str(tmp_path / "first"))
    history = json.loads((tmp_path / "second" / "metrics.json").read_text(encoding="utf-8"))["history"]
    first = read_header(tmp_path / "first" / "model.safetensors").metrics
    assert history[0]["cider"] == pytest.approx(first["cider"], abs=0.02)  # the same model, above a trunk in fp16
    metrics = score_captioners([str(result.run)], str(shapes), "val", {"beam": 1}, Compute("cpu", "fp32")).result
    assert metrics.scores["cider"] == pytest.approx(result.metrics["cider"], abs=1e-6)
    kept = read_tensors(result.model)
    assert any(name.startswith("tower.blocks.") for name in kept)
    with pytest.raises(IncompatibleFeatures):
        other = ("features.tuned_blocks=2", "optimizer.image_tower_lr_scale=0.1")
        train(shapes, tmp_path / "third", *grid, *other, init_from=str(tmp_path / "second"))
