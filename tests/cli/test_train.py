"""``xmodal train``: the command and the files of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.hinted_commands import hinted_commands
from safetensors import safe_open

from xmodal_cli import catalog
from xmodal_cli.data.registry import add
from xmodal_cli.models.model_file import read_header
from xmodal_cli.training.log import read_log

STEPS = 15  # per epoch: 480 captions in batches of 32
FORMS, THINGS = ("a {} next to a {}", "there is a {} and a {} in the photo", "the {} is beside the {}"), range(12)
CHANCE = 2 * 100 * (1 + 5 + 10) / 40  # rsum of 40 val images drawn at random


def train_args(data: Path, run: Path, small_settings: list[str], *more: object, preset: str = "vse") -> list[object]:
    return ["train", "--model", preset, "--data", data, "--out", run, "--device", "cpu", *small_settings, *more]


def files(run: Path) -> dict[str, bytes]:
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in sorted(run.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("preset", ["order-emb", "vse", "vsepp"])
def test_the_presets_train_and_write_the_files_of_a_run(xmodal, planted, small_settings, tmp_path, preset):
    run = tmp_path / "run"
    gru = ["--set", "model.text_encoder=gru", "--set", "model.text_encoder.args.word_dim=24"]
    done = xmodal(*train_args(planted, run, small_settings, *gru, "--json", preset=preset))
    assert done.code == 0, done.err
    result = done.json
    assert set(result) == {"run", "model", "best_epoch", "epochs", "interrupted", "val", "seconds"}
    assert (result["run"], result["model"]) == (str(run), str(run / "model.safetensors"))
    assert (result["epochs"], result["interrupted"]) == (4, False)
    assert result["val"]["rsum"] > 2.5 * CHANCE
    assert set(files(run)) == {
        *("config.toml", "log.jsonl", "model.safetensors", "metrics.json", "curves.png", "last/state.safetensors")
    }
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["best"]["rsum"] == max(h["rsum"] for h in metrics["history"]) == result["val"]["rsum"]
    assert metrics["history"][result["best_epoch"] - 1] == metrics["best"]
    assert metrics["history"][0]["rsum"] < metrics["best"]["rsum"]
    losses = [r["loss"] for r in read_log(run) if r["event"] == "step"]
    assert len(losses) == 4 * STEPS
    assert losses[-1] < losses[0] / 2


def test_the_header_of_the_model_file(trained, planted):
    header = read_header(trained / "model.safetensors")
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    assert header.kind == "matcher"
    assert header.meta.backbone == "precomputed"
    assert (header.architecture["image_dim"], header.architecture["embed_dim"]) == (20, 32)
    settings = tomllib.loads((trained / "config.toml").read_text(encoding="utf-8"))
    settings["data"]["name"] = ""  # the model file does not have the path of the dataset
    assert header.training == settings
    assert header.dataset["splits"] == ["train", "restval"]
    assert header.metrics["rsum"] == metrics["best"]["rsum"]
    with safe_open(trained / "model.safetensors", framework="pt") as opened:
        assert opened.get_tensor("text_encoder.words.table.weight").shape == (header.architecture["vocab_size"], 24)


def test_the_vocabulary_comes_from_training_captions_only(xmodal, planted, small_settings, tmp_path):
    from xmodal_cli.models.tokenizer import Tokenizer

    data = tmp_path / "data"
    data.mkdir()
    for file in planted.iterdir():
        content = file.read_bytes()
        if file.name == "toy_dev_caps.txt":
            content = content.replace(b"photo", b"photograph")
        (data / file.name).write_bytes(content)
    assert xmodal(*train_args(data, tmp_path / "run", small_settings, "--set", "training.epochs=1")).code == 0
    tokenizer = Tokenizer.from_json(read_header(tmp_path / "run" / "model.safetensors").tokenizer)
    assert tokenizer.unknown_words("a photo or a photograph") == ["or", "photograph"]
    words = {word for form in FORMS for word in form.replace("{}", "").split()}
    assert tokenizer.vocab_size == 4 + len(THINGS) + len(words)


def test_results_depend_only_on_the_seed(xmodal, trained, planted, small_settings, tmp_path):
    assert xmodal(*train_args(planted, tmp_path / "same", small_settings)).code == 0
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (tmp_path / "same" / name).read_bytes() == (trained / name).read_bytes(), name
    assert xmodal(*train_args(planted, tmp_path / "other", small_settings, "--seed", 1)).code == 0
    assert (tmp_path / "other" / "metrics.json").read_bytes() != (trained / "metrics.json").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_and_resumed_run_has_the_same_metrics(xmodal, trained, planted, small_settings, tmp_path):
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "xmodal_cli", *map(str, train_args(planted, run, small_settings))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # results depend on the number
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (in_second := [r for r in read_log(run) if r["event"] == "step" and r["epoch"] == 2][2:]):
            assert process.poll() is None, "the training ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert in_second
    assert not (run / "metrics.json").exists()
    assert xmodal(*train_args(planted, run, small_settings)).code == 1  # without --resume the run is not changed
    done = xmodal(*train_args(planted, run, small_settings, "--resume"))
    assert done.code == 0, done.err
    assert "resuming" in done.err
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (run / name).read_bytes() == (trained / name).read_bytes(), name
    steps = [r["step"] for r in read_log(run) if r["event"] == "step"]
    assert steps == list(range(1, 4 * STEPS + 1))
    assert not [p for p in run.rglob("*") if p.name.endswith(".tmp")]


def test_ctrl_c_leaves_a_usable_run(xmodal, planted, small_settings, trained, tmp_path, monkeypatch):
    from xmodal_cli.losses.triplet import Triplet

    count = 0
    call = Triplet.__call__

    def interrupted(self, scores, positives):
        nonlocal count
        count += 1
        if count == 20:
            raise KeyboardInterrupt
        return call(self, scores, positives)

    run = tmp_path / "run"
    monkeypatch.setattr(Triplet, "__call__", interrupted)
    done = xmodal(*train_args(planted, run, small_settings, "--json"))
    assert done.code == 130
    assert (done.json["interrupted"], done.json["epochs"]) == (True, 1)
    assert "--resume to continue" not in done.out
    assert xmodal("eval", run, "--data", planted, "--json").json["rsum"] > 0
    assert {"metrics.json", "curves.png"} <= set(files(run))
    assert xmodal(*train_args(planted, run, small_settings, "--resume")).code == 0
    assert (run / "metrics.json").read_bytes() == (trained / "metrics.json").read_bytes()


def test_a_run_is_never_overwritten(xmodal, planted, small_settings, trained):
    before = files(trained)
    done = xmodal(*train_args(planted, trained, small_settings))
    assert done.code == 1
    assert f"{trained} already contains a training run" in done.err
    assert "--resume" in done.err
    assert files(trained) == before


def test_a_run_is_not_resumed_with_other_settings_or_data(xmodal, planted, small_settings, trained, tmp_path):
    before = files(trained)
    done = xmodal(*train_args(planted, trained, small_settings, "--resume", "--set", "optimizer.lr=0.5"))
    assert done.code == 1
    assert "different settings" in done.err
    other = tmp_path / "other"
    other.mkdir()
    for file in planted.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    caps = other / "toy_train_caps.txt"
    caps.write_text(caps.read_text(encoding="utf-8").replace("dog", "cat", 1), encoding="utf-8")
    done = xmodal(*train_args(other, trained, small_settings, "--resume"))
    assert done.code == 1
    assert "other data" in done.err
    assert {k: v for k, v in files(trained).items() if k != "config.toml"} == {
        k: v for k, v in before.items() if k != "config.toml"
    }


def test_the_default_run_name(xmodal, planted, small_settings, home):
    add("toy", planted)
    args = ["train", "--model", "vse", "--data", "toy", *small_settings, "--set", "training.epochs=1", "--json"]
    done = xmodal(*args)
    assert done.code == 0, done.err
    assert done.json["run"] == str(home / "runs" / "vse-toy")
    result = xmodal("eval", "vse-toy", "--data", "toy", "--json").json
    assert (result["model"], result["data"]) == ("vse-toy", "toy")
    listed, *shipped = xmodal("models", "list", "--json").json[::-1]
    assert {entry["name"] for entry in shipped} == {"starter", "starter-captioner"}
    assert (listed["name"], listed["data"], listed["backbone"]) == ("vse-toy", "toy", "precomputed")
    info = xmodal("models", "info", "vse-toy", "--json").json
    assert info["metrics"]["rsum"] == done.json["val"]["rsum"] == listed["rsum"]
    assert info["vocabulary"] == 4 + len(THINGS) + 10
    shown = xmodal("models", "info", "vse-toy")
    assert info["fingerprint"] in shown.out


def test_init_from(xmodal, planted, small_settings, trained, tmp_path):
    again = ["--init-from", trained, "--set", "training.epochs=1", "--set", "optimizer.lr=0.0001", "--json"]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *again))
    assert done.code == 0, done.err
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))
    assert done.json["val"]["rsum"] > metrics["history"][0]["rsum"]
    assert done.json["val"]["rsum"] == pytest.approx(metrics["best"]["rsum"], abs=15)
    done = xmodal(*train_args(planted, tmp_path / "b", small_settings, *again, "--set", "model.embed_dim=16"))
    assert done.code == 1
    assert "does not fit this preset" in done.err
    (command,) = hinted_commands(done.err)
    assert xmodal(*command).json["training"]["model"]["embed_dim"] == embed_dim_of(trained)


def embed_dim_of(run: Path) -> int:
    return int(tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["model"]["embed_dim"])


def test_the_next_command_of_a_run_whose_name_begins_with_a_dash(
    xmodal, planted, small_settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = xmodal(*train_args(planted, Path("-run"), small_settings, "--set", "training.epochs=1"))
    (command,) = hinted_commands(done.err)
    assert xmodal(*command).code == 0


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("vgg19", "vgg reads features of vgg19, this training has precomputed"),
        ("precomputed", "precomputed has other weights or preprocessing here than when vgg was trained"),
    ],
)
def test_init_from_a_model_of_other_features(
    xmodal, planted, small_settings, trained, tmp_path, backbone: str, message: str
):
    from dataclasses import asdict, replace

    from xmodal_cli.models.model_file import read_tensors, write_model

    header = read_header(trained / "model.safetensors")
    foreign = replace(header, backbone=asdict(replace(header.meta, backbone=backbone, fingerprint="f" * 64)))
    write_model(tmp_path / "vgg.safetensors", foreign, read_tensors(trained / "model.safetensors"))
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, "--init-from", tmp_path / "vgg.safetensors"))
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--model", "vsep"], "there is no preset called 'vsep'"),
        (["--set", "model.text_encoder=gur"], "there is no text encoder called 'gur'"),
        (["--set", "model.similarity=cosin"], "there is no similarity called 'cosin'"),
        (["--set", "loss=tripplet"], "there is no loss called 'tripplet'"),
        (["--set", "loss.args.margn=1"], "there is no argument of loss 'triplet' called 'margn'"),
        (["--set", "loss.args.margin=-1"], "loss 'triplet' cannot be built: margin must be above 0"),
        (["--set", "optimizer.name=adm"], "optimizer.name must be adam or adamw, not 'adm'"),
        (["--set", "schedule.name=cosin"], "schedule.name must be constant, step, cosine or linear, not 'cosin'"),
        (["--set", "training.epoch=3"], "there is no setting called 'training.epoch'"),
        (
            ["--set", "data.val_split=heldout"],
            "has no captioned images in heldout; its splits: train (160), val (40), test (45)",
        ),
        (["--device", "gpu"], "there is no device called 'gpu'"),
        (["--data", "no/such/folder"], "there is no dataset at no/such/folder"),
        (["--data", "f8"], "there is no dataset called 'f8'"),
        (["--init-from", "vse-f8k"], "there is no model called 'vse-f8k'"),
    ],
)
def test_invalid_arguments_are_errors_and_leave_no_run(xmodal, planted, small_settings, tmp_path, change, message):
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *change))
    assert (done.code, done.out) == (1, "")
    assert message in done.err.splitlines()[0]
    assert done.err.splitlines()[1].startswith("hint: ")
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_a_diverging_run_is_an_error(xmodal, planted, small_settings, tmp_path):
    settings = ["--set", "optimizer.lr=1e38", "--set", "optimizer.grad_clip=0"]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings))
    assert done.code == 1
    assert "not finite" in done.err
    assert "optimizer.lr" in done.err.splitlines()[-1]


FROM_SCRATCH = [
    name for name in catalog.names("text_encoder") if name != "identity"
]  # identity needs a pretrained tower


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_every_text_encoder_trains(xmodal, planted, small_settings, tmp_path, name):
    settings = ["--set", f"model.text_encoder={name}", "--set", "model.text_encoder.args.word_dim=24"]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings, "--json"))
    assert done.code == 0, done.err
    assert done.json["val"]["rsum"] > 3 * CHANCE


def test_sampled_negatives_and_bfloat16(xmodal, planted, small_settings, tmp_path):
    settings = ["--set", "loss.args.ncon=8", "--precision", "bf16", "--set", "schedule.name=cosine"]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings, "--json"))
    assert done.code == 0, done.err
    assert done.json["val"]["rsum"] > 3 * CHANCE


def test_arrays_and_captions_of_different_lengths(xmodal, small_settings, tmp_path):
    """The error names the array that does not match the captions."""
    data = tmp_path / "odd"
    data.mkdir()
    np.save(data / "train.npy", np.zeros((3, 4), np.float32))
    (data / "train.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    done = xmodal(*train_args(data, tmp_path / "run", small_settings))
    assert done.code == 1
    assert "train.npy has 3 rows for 4 captions" in done.err


def test_training_does_not_change_the_settings_of_torch(trained):
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
