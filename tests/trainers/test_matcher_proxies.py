"""Losses with proxies: trained with the matcher, resumed exactly, and not in the model file."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.planted_words import SIZES
from safetensors import safe_open

from xmodal_cli.config import load_config
from xmodal_cli.trainers.matcher import MatcherObjective, TrainableMatcher

CHANCE = 2 * 100 * (1 + 5 + 10) / SIZES["dev"]
PROXIES = ["--set", "loss=metric_learning", "--set", "loss.args.loss=ProxyAnchorLoss", "--set", "warmup.epochs=0"]
SCALED = ["--set", "optimizer.loss_lr_scale=5", "--set", "schedule.name=constant"]


def train(xmodal, data, run, small_settings, *more):
    done = xmodal("train", "--model", "vse", "--data", data, "--out", run, "--device", "cpu", *small_settings, *more)
    assert done.code == 0, done.err
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def tensors(file):
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def test_they_are_trained_and_saved_with_the_resume_state_only(xmodal, planted, small_settings, tmp_path):
    metrics = train(xmodal, planted, tmp_path / "run", small_settings, *PROXIES, *SCALED, "--set", "training.epochs=8")
    assert metrics["best"]["rsum"] > 3 * CHANCE
    state = tensors(tmp_path / "run" / "last" / "state.safetensors")
    assert state["model.loss.loss.proxies"].shape == (SIZES["train"], 32)
    assert not [name for name in tensors(tmp_path / "run" / "model.safetensors") if "proxies" in name or "loss" in name]


@pytest.mark.parametrize("loss", ["ArcFaceLoss", "SoftTripleLoss"])
def test_a_resumed_run_equals_an_uninterrupted_one(xmodal, planted, small_settings, tmp_path, loss):
    options = [*PROXIES, *SCALED, "--set", f"loss.args.loss={loss}"]
    for run, epochs in (("whole", 2), ("parts", 1)):
        train(xmodal, planted, tmp_path / run, small_settings, *options, "--set", f"training.epochs={epochs}")
    train(xmodal, planted, tmp_path / "parts", small_settings, *options, "--set", "training.epochs=2", "--resume")
    for file in ("last/state.safetensors", "model.safetensors"):
        whole, parts = (tensors(tmp_path / run / file) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_the_weights_of_the_loss_have_a_learning_rate_multiplier_of_their_own():
    config = load_config("vse", ["optimizer.loss_lr_scale=7"])
    matcher = torch.nn.Module()
    matcher.text_encoder = torch.nn.Linear(2, 2)
    model = TrainableMatcher(matcher, torch.nn.Linear(3, 3), torch.nn.Linear(4, 4))
    groups = MatcherObjective().build_optimizer(config, model).param_groups
    scales = {value.shape[0]: group["lr_scale"] for group in groups for value in group["params"]}
    assert scales == {2: 1.0, 3: 7.0, 4: 7.0}


def test_proxies_need_cosines(xmodal, planted, small_settings, tmp_path):
    options = [*PROXIES, "--set", "model.similarity=order"]
    done = xmodal("train", "--model", "vse", "--data", planted, "--out", tmp_path / "run", *small_settings, *options)
    assert done.code == 1
    assert "losses with proxies compare cosines, not the similarity order" in done.err
    assert not (tmp_path / "run").exists()
