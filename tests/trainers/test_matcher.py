"""``xmodal train`` with averages, learned losses, initial weights, word vectors and towers."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from helpers.planted_words import SIZES, THINGS
from safetensors import safe_open
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, processors

from xmodal_cli import catalog
from xmodal_cli.losses.infonce import InfoNCE
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.trainers import matcher

CHANCE = 2 * 100 * (1 + 5 + 10) / SIZES["dev"]
STEPS = 15  # an epoch's
LEARNT = ["--set", "loss=infonce", "--set", "loss.args.learnable=true", "--set", "loss.args.temperature=0.1"]
AVERAGED = ["--set", "training.ema=0.9"]


def train_args(data, run, small_settings, *more):
    return ["train", "--model", "vse", "--data", data, "--out", run, "--device", "cpu", *small_settings, *more]


def result(done, code=0):
    assert done.code == code, done.err
    return done.json


def history(run):
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))["history"]


def state(run):
    with safe_open(run / "last" / "state.safetensors", framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def interrupted_at(step, monkeypatch):
    """Ctrl-C once, at a step counted from 1."""
    count, forward = 0, InfoNCE.forward

    def failing(self, scores, positives):
        nonlocal count
        count += 1
        if count == step:
            raise KeyboardInterrupt
        return forward(self, scores, positives)

    monkeypatch.setattr(InfoNCE, "forward", failing)


# ---------------------------------------------------------------------------- what is kept and resumed


@pytest.mark.parametrize("step", [STEPS // 2, STEPS + 4])
def test_averages_and_learned_scales_survive_an_interruption_byte_for_byte(
    xmodal, planted, small_settings, tmp_path, monkeypatch, step
):
    settings = [*LEARNT, *AVERAGED, "--set", "training.epochs=2", "--json"]
    whole = result(xmodal(*train_args(planted, tmp_path / "whole", small_settings, *settings)))
    with monkeypatch.context() as patch:
        interrupted_at(step, patch)
        died = result(xmodal(*train_args(planted, tmp_path / "died", small_settings, *settings)), code=130)
    assert (died["interrupted"], died["epochs"]) == (True, step // STEPS)
    resumed = result(xmodal(*train_args(planted, tmp_path / "died", small_settings, *settings, "--resume")))
    assert resumed["val"] == whole["val"]
    for name in ("metrics.json", "model.safetensors", "last/state.safetensors"):
        assert (tmp_path / "died" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_learned_scale_changes_and_the_kept_model_is_the_average(xmodal, planted, small_settings, tmp_path):
    run = tmp_path / "run"
    result(
        xmodal(*train_args(planted, run, small_settings, *LEARNT, *AVERAGED, "--set", "training.epochs=2", "--json"))
    )
    tensors = state(run)
    assert abs(tensors["model.loss.log_scale"].item() - math.log(10)) > 0.001
    assert {name.partition(".")[0] for name in tensors} == {"model", "average", "optimizer"}
    weights = "model.image_encoder.project.weight"
    kept = read_tensors(run / "model.safetensors")
    if history(run)[-1]["rsum"] == max(entry["rsum"] for entry in history(run)):
        assert torch.equal(kept["image_encoder.project.weight"], tensors[f"average.module.{weights}"])
    assert not torch.equal(kept["image_encoder.project.weight"], tensors[f"model.{weights}"])
    assert not any("log_scale" in name for name in kept)  # a matcher has no parameters of losses
    assert result(xmodal("eval", run, "--data", planted, "--json"))["rsum"] > 2 * CHANCE


def test_a_training_without_improvement_keeps_the_initial_model(xmodal, planted, small_settings, trained, tmp_path):
    run = tmp_path / "run"
    spoiling = ["--init-from", trained, "--set", "training.eval_initial=true", "--set", "optimizer.lr=50", *LEARNT]
    done = result(xmodal(*train_args(planted, run, small_settings, *spoiling, "--set", "training.epochs=2", "--json")))
    assert done["best_epoch"] == 0
    assert done["val"]["rsum"] == max(entry["rsum"] for entry in history(trained))
    assert [entry["epoch"] for entry in history(run)] == [0, 1, 2]
    assert max(entry["rsum"] for entry in history(run)[1:]) < done["val"]["rsum"] / 2
    before, after = read_tensors(trained / "model.safetensors"), read_tensors(run / "model.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_equal_vectors_of_all_images_are_reported(xmodal, planted, small_settings, tmp_path, monkeypatch):
    """As after a step so large that the norms of the vectors overflow: loss and metrics are finite."""
    message = "all images of val have the same vector: try a lower learning rate, for example --set optimizer.lr="
    short = ("--set", "training.epochs=1")
    healthy = xmodal(*train_args(planted, tmp_path / "a", small_settings, *short))
    assert healthy.code == 0 and "same vector" not in healthy.err
    embed = matcher._embed_images
    monkeypatch.setattr(matcher, "_embed_images", lambda *args: 0 * embed(*args))
    collapsed = xmodal(*train_args(planted, tmp_path / "b", small_settings, *short))
    assert collapsed.code == 0 and message in collapsed.err


def test_captions_grouped_by_image_are_trained_on(xmodal, planted, small_settings, tmp_path, monkeypatch):
    seen = []
    forward = InfoNCE.forward

    def watched(self, scores, positives):
        seen.append((tuple(scores.shape), positives.sum(1).tolist()))
        return forward(self, scores, positives)

    monkeypatch.setattr(InfoNCE, "forward", watched)
    settings = [*LEARNT, "--set", "training.group_captions_by_image=true", "--set", "training.epochs=1", "--json"]
    assert (
        result(xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings)))["val"]["rsum"] > 1.5 * CHANCE
    )
    assert len(seen) == 16  # ten images of three captions at a time
    assert all(shape == (10, 30) and counts == [3] * 10 for shape, counts in seen)


@pytest.mark.parametrize("name", catalog.names("image_encoder"))
def test_every_image_encoder_trains(xmodal, planted, small_settings, tmp_path, name):
    settings = ["--set", f"model.image_encoder={name}", *LEARNT, "--set", "training.epochs=3"]
    if name == "identity":
        settings += ["--set", "model.embed_dim=0"]  # that of the features
    if name.endswith("transformer"):
        settings += ["--set", "model.image_encoder.args={width=32, num_layers=1}", "--set", "optimizer.lr=0.003"]
    done = result(xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings, "--json")))
    assert done["val"]["rsum"] > 2 * CHANCE
    assert read_header(tmp_path / "run" / "model.safetensors").architecture["embed_dim"] == (
        20 if name == "identity" else 32
    )


# ---------------------------------------------------------------------------- word vectors


def test_words_start_from_a_file_of_vectors(xmodal, planted, small_settings, tmp_path):
    file = tmp_path / "vectors.txt"
    rows = {word: [float(n)] * 23 + [0.5] for n, word in enumerate((*THINGS, "unheard"))}
    file.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in rows.items()), encoding="utf-8")
    settings = ["--set", f"text.word_vectors={file}", "--set", "optimizer.lr=1e-60", "--set", "training.epochs=1"]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings))
    assert done.code == 0, done.err
    assert "12 of 22 words initialized from vectors.txt" in done.err
    table = read_tensors(tmp_path / "run" / "model.safetensors")["text_encoder.words.table.weight"]
    rows_in_file = [row.tolist() for row in table]
    assert all(rows[word] in rows_in_file for word in THINGS)
    assert rows["unheard"] not in rows_in_file


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["--set", "text.word_vectors=absent.txt"], "absent.txt does not exist"),
        (["--set", "text.backbone=minilmm"], "there is no sentence encoder called 'minilmm'"),
        (["--set", "model.text_encoder=identity"], "set text.backbone"),
        (["--set", "model.image_encoder.args.pooling=mean"], "no argument of image encoder 'linear' called 'pooling'"),
        (["--set", "model.text_encoder.args.pooling=medium"], "there is no pooling called 'medium'"),
        (["--set", "model.name=tern"], "tern needs an encoder with states"),
        (["--set", "training.ema=1"], "training.ema must be at least 0 and below 1, not 1"),
        (["--init-from", "TRAINED", "--set", "model.embed_dim=16"], "does not fit this preset"),
    ],
)
def test_invalid_settings_are_errors_and_leave_no_run(
    xmodal, planted, small_settings, trained, tmp_path, settings, sentence
):
    settings = [str(trained) if part == "TRAINED" else part for part in settings]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings))
    assert (done.code, done.out) == (1, "")
    message = done.err.splitlines()
    (error,) = [n for n, line in enumerate(message) if line.startswith("error: ")]
    assert sentence in message[error] or sentence in message[error + 1]
    assert message[error + 1].startswith("hint: ")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------- a small pretrained encoder in a folder


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A folder with an encoder of random weights that knows the words of the planted captions."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *THINGS, *"a next to there is and in the image beside".split()]  # noqa: SIM905
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), initializer_range=0.3, **sizes)
    BertModel(config).save_pretrained(folder)
    rust = RustTokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    rust.save(str(folder / "tokenizer.json"))
    return folder


def test_word_vectors_are_not_for_a_pretrained_encoder(xmodal, planted, small_settings, tiny_bert, tmp_path):
    both = ["--set", "text.word_vectors=absent.txt", "--set", f"text.backbone={tiny_bert}"]
    done = xmodal(*train_args(planted, tmp_path / "run", small_settings, *both, "--set", "model.text_encoder.args={}"))
    assert done.code == 1
    assert "has its own words" in done.err
    assert not (tmp_path / "run").exists()


def test_tern_learns(xmodal, planted, small_settings, tiny_bert, tmp_path):
    parts = {
        "model.args": "{shared_layers=1, dropout=0.0}",
        "model.image_encoder.args": "{width=32, num_layers=1, dropout=0.0}",
        "model.text_encoder": "identity",
        "text.backbone": tiny_bert,
        "features.kind": "global",
        "schedule.warmup_steps": 10,
        "training.ema": 0,
        "optimizer.lr": 0.003,
    }
    sets = [part for key, value in parts.items() for part in ("--set", f"{key}={value}")]
    args = train_args(planted, tmp_path / "run", small_settings, *sets, *LEARNT, "--json")
    args[args.index("vse")] = "tern-grid"
    assert result(xmodal(*args))["val"]["rsum"] > 1.5 * CHANCE


@pytest.mark.parametrize(("lr_scale", "layers"), [(0.0, 0), (0.1, 0), (0.1, 1)])
def test_an_encoder_from_a_folder_is_used_as_it_is_or_tuned(
    xmodal, planted, small_settings, tiny_bert, tmp_path, lr_scale, layers
):
    run = tmp_path / "run"
    settings = {"text.backbone": tiny_bert, "optimizer.text_tower_lr_scale": lr_scale, "text.tuned_layers": layers}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    words = ["--set", "model.text_encoder.args={dropout=0.1}", "--set", "training.epochs=3", *LEARNT, "--json"]
    done = result(xmodal(*train_args(planted, run, small_settings, *sets, *words)))
    assert done["val"]["rsum"] > 2 * CHANCE
    tensors = read_tensors(run / "model.safetensors")
    towers = [name for name in tensors if ".tower." in name]
    assert bool(towers) == bool(lr_scale)
    assert not any("embeddings" in name for name in towers)
    assert {name.split("layers.")[1][0] for name in towers if "layers." in name} == ({"0"} if layers else set())
    facts = read_header(run / "model.safetensors").architecture["towers"]["text"]
    assert (facts["backbone"], facts["tuned"], facts["layers"]) == (str(tiny_bert), bool(lr_scale), layers)
    val = result(xmodal("eval", run, "--data", planted, "--split", "val", "--precision", "fp32", "--json"))
    assert val["rsum"] == pytest.approx(done["val"]["rsum"], abs=6)  # states are kept in 16 bits where they can be


def test_a_model_is_not_used_with_another_encoder_than_its_own(xmodal, planted, small_settings, tiny_bert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    settings = ["--set", f"text.backbone={folder}", "--set", "model.text_encoder.args={}", "--set", "training.epochs=1"]
    assert xmodal(*train_args(planted, tmp_path / "run", small_settings, *settings)).code == 0
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value + 0.1 for name, value in tensors.items()}, folder / "model.safetensors")
    done = xmodal("eval", tmp_path / "run", "--data", planted)
    assert done.code == 1
    assert "has other weights here than when run was trained" in done.err
    assert "sha256" in done.err
