"""Stochastic attention is trained from the settings to the file, and resumed exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from xmodal_cli.config import load_config
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.models.model_file import read_tensors
from xmodal_cli.recipes import train as recipe
from xmodal_cli.recipes.train import train_model

THINGS = ("dog", "ball", "kite", "boat")
SETTINGS = (
    "features.kind=grid",
    "model.embed_dim=32",
    "model.args={attention='stochastic', attention_dim=16, dropout=0.1}",
    "loss.name=variational-bound",
    "data.min_word_count=1",
    "training.batch_size=24",
    "training.patience=0",
    "training.ema=0.5",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
    "optimizer.lr=0.005",
    "schedule.name=constant",
    "schedule.warmup_steps=0",
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """Images of three empty cells and one with a thing, which every caption names; features are (images, 4, 16)."""
    folder = tmp_path_factory.mktemp("planted") / "toy"
    folder.mkdir()
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(THINGS), 16))
    for split, size in (("train", 60), ("dev", 12), ("test", 12)):
        features = 0.05 * rng.normal(size=(size, 4, 16))
        things = rng.integers(len(THINGS), size=size)
        features[np.arange(size), rng.integers(4, size=size)] += vectors[things]
        captions = [form.format(THINGS[n]) for n in things for form in ("there is a {} here", "a {} in a corner")]
        np.save(folder / f"toy_{split}_ims.npy", features.astype(np.float32))
        (folder / f"toy_{split}_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def no_curves_and_no_java(monkeypatch):
    monkeypatch.setattr(recipe, "draw_curves", lambda run: None)
    monkeypatch.setenv("PATH", "")


def train(planted: Path, run: Path, *settings: str, **how):
    config = load_config("show-attend-tell", [*SETTINGS, *settings])
    return train_model(config, str(planted), run, **how)


def resume_state(run: Path) -> dict[str, np.ndarray]:
    with safe_open(run / "last" / "state.safetensors", "np") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)


def test_it_learns_to_name_the_thing(planted, tmp_path):
    result = train(planted, tmp_path / "run", "training.epochs=12")
    assert result.metrics["cider"] > 2  # at most 10; captions of another thing have about 1
    assert load_captioner(str(tmp_path / "run")).model.attention == "stochastic"


def test_resuming_is_exact_and_the_baseline_is_part_of_the_state(planted, tmp_path):
    train(planted, tmp_path / "whole", "training.epochs=3")
    train(planted, tmp_path / "parts", "training.epochs=1")
    after_one = resume_state(tmp_path / "parts")["model.loss.baseline"]
    train(planted, tmp_path / "parts", "training.epochs=3", resume=True)
    whole, parts = (resume_state(tmp_path / run) for run in ("whole", "parts"))
    assert whole["model.loss.baseline"] != after_one
    assert whole["model.loss.baseline"] < 0
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
    assert not any("baseline" in name for name in read_tensors(tmp_path / "whole" / "model.safetensors"))


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("loss.name=cross-entropy", "does not train stochastic attention", "loss.name=variational-bound"),
        ("model.args.attention=soft", "needs a captioner with stochastic", "model.args.attention=stochastic"),
    ],
)
def test_a_loss_that_does_not_fit_the_attention_is_refused(planted, tmp_path, setting, message, hint):
    with pytest.raises(ConfigError, match=message) as caught:
        train(planted, tmp_path / "run", setting)
    assert hint in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_self_critical_training_continues_stochastic_attention(planted, tmp_path):
    train(planted, tmp_path / "start", "training.epochs=2")
    more = ("loss.name=self-critical", "loss.args={num_samples=3}", "training.epochs=1", "training.eval_initial=true")
    train(planted, tmp_path / "sc", *more, init_from=str(tmp_path / "start"))
    assert load_captioner(str(tmp_path / "sc")).model.attention == "stochastic"
