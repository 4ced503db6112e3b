"""Presets on a pretrained sentence encoder, tiny, from images to search: ``two-heads``, ``tern-grid``, ``tern``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.scenes import COLORS
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.models.model_file import read_header, read_tensors, write_model

NUM = {"num_train": 10, "num_val": 6, "num_test": 5}
TINY = {
    "model.embed_dim": 64,
    "training.epochs": 3,
    "training.batch_size": 40,
    "training.tensorboard": "false",
    "optimizer.lr": 0.003,
    "schedule.warmup_steps": 3,
}
PRESETS = {
    "two-heads": {},
    "tern-grid": {
        "model.args": "{shared_layers=1, dropout=0.0}",
        "model.image_encoder.args": "{width=64, num_layers=1, dropout=0.0}",
        "model.text_encoder.args": "{}",
        "training.ema": 0.5,
    },
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A home for the whole file, so that features are extracted once."""
    return tmp_path_factory.mktemp("shared-home")


@pytest.fixture(autouse=True)
def in_shared_home(home, shared, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(shared))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", **NUM)


@pytest.fixture
def run(xmodal, shapes, shared, request):
    """A finished run of the preset, made once; read it, do not write to it."""
    preset, folder = request.param, shared / "runs" / f"tiny-{request.param}"
    if not folder.exists():
        settings = {**TINY, **PRESETS[preset]}
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        where = ["--data", shapes, "--out", folder, "--device", "cpu", "--precision", "fp32"]
        done = xmodal("train", "--model", preset, *where, *sets, "--json")
        assert done.code == 0, done.err
    return folder


both = pytest.mark.parametrize("run", PRESETS, indirect=True)


@both
def test_eval_of_a_run_gives_its_training_metrics(xmodal, shapes, run):
    args = ["--data", shapes, "--device", "cpu", "--precision", "fp32", "--json"]
    kept = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["best"]
    done = xmodal("eval", run, "--split", "val", *args)
    assert done.code == 0, done.err
    assert done.json["rsum"] == pytest.approx(kept["rsum"], abs=9)  # one query more or less in a rank
    test = xmodal("eval", run.name, *args).json
    assert (test["images"], test["captions"]) == (NUM["num_test"], 5 * NUM["num_test"])


@both
def test_the_file_holds_the_heads_and_names_the_encoder(run):
    header, tensors = read_header(run / "model.safetensors"), read_tensors(run / "model.safetensors")
    assert not [name for name in tensors if ".tower." in name]
    assert sum(value.nbytes for value in tensors.values()) < 2_000_000
    assert header.architecture["towers"]["text"]["backbone"] == "minilm"
    assert header.architecture["text_dim"] == 384
    assert json.loads(header.tokenizer)["model"]["type"] == "WordPiece"


@both
def test_search_ranks_images_by_the_models_vectors(xmodal, shapes, run):
    photos = [example.path for example in load_dataset(str(shapes)).select("test").examples]
    how = ["--device", "cpu", "--precision", "fp32"]
    done = xmodal("index", *photos, "--model", run, "--index", run.name, *how, "--json")
    assert done.code == 0, done.err
    assert done.json["items"] == len(photos)
    sentence = "A red circle is above an extraordinarily blue triangle."
    found = xmodal("search", sentence, "--index", run.name, "-k", 50, "--json")
    assert found.code == 0, found.err
    assert "warning" not in found.err  # parts of words are never unknown
    scores = {Path(hit["path"]).name: hit["score"] for hit in found.json["hits"]}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)

    vector = load_matcher(str(run), Compute("cpu", "fp32")).embed_texts([sentence])[0]
    out = run.parent / f"{run.name}.npz"
    assert xmodal("features", shapes, "--split", "test", "--model", run, "--out", out, *how).code == 0
    expected = zip((photo.name for photo in photos), np.load(out)["images"] @ vector, strict=True)
    assert scores == pytest.approx(dict(expected), abs=2e-3)


@both
def test_sentences_alone_or_together_have_the_same_vectors(run):
    matcher = load_matcher(str(run), Compute("cpu", "fp32"))
    sentences = ["a red circle", "", "there is a big green square to the left of a small yellow triangle " * 9, "blue"]
    alone = np.concatenate([matcher.embed_texts([sentence]) for sentence in sentences])
    np.testing.assert_allclose(matcher.embed_texts(sentences), alone, atol=1e-5)


@pytest.mark.parametrize("run", ["two-heads"], indirect=True)
def test_an_encoder_with_other_weights_than_in_training_is_an_error(xmodal, shapes, run, tmp_path):
    header, tensors = read_header(run / "model.safetensors"), read_tensors(run / "model.safetensors")
    tower = {**header.architecture["towers"]["text"], "fingerprint": "0" * 64}
    other = replace(header, architecture={**header.architecture, "towers": {"text": tower}})
    write_model(tmp_path / "other.safetensors", other, tensors)
    done = xmodal("eval", tmp_path / "other.safetensors", "--data", shapes)
    assert done.code == 1
    assert "minilm has other weights here than when other was trained" in done.err


@pytest.mark.parametrize("run", ["tern-grid"], indirect=True)
def test_models_info_lists_the_tower(xmodal, run):
    done = xmodal("models", "info", run)
    assert done.code == 0, done.err
    assert re.search(r"text tower +minilm", done.out)


# ---------------------------------------------------------------------------- TERN as published, on small local parts


@pytest.fixture(scope="module")
def region_folder(shapes, tmp_path_factory):
    """Random regions of all images of ``shapes``, one file each."""
    folder, rng = tmp_path_factory.mktemp("regions"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for example in load_dataset(str(shapes)).select(split).examples:
            corners = np.sort(rng.random((6, 2, 2)), axis=1).reshape(6, 4).astype(np.float32)
            np.savez(folder / f"{example.path.stem}.npz", x=rng.random((6, 12), np.float32), bbox=corners)
    return folder


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A BERT of random weights with a vocabulary of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoders") / "bert"
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *COLORS, "a", "circle", "square", "triangle", "is", "above"]
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    rust = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    rust.save(str(folder / "tokenizer.json"))
    return folder


SMALL_TERN = {
    "model.args": "{num_heads=2, feed_forward=32}",
    "model.image_encoder.args": "{width=24, num_layers=2, num_heads=2, feed_forward=32}",
    "model.embed_dim": 16,
    "training.epochs": 2,
    "training.batch_size": 10,
    "training.tensorboard": "false",
    "optimizer.lr": 0.001,
    "schedule.warmup_steps": 2,
}


def train_published(xmodal, shapes, *args):
    sets = [part for key, value in SMALL_TERN.items() for part in ("--set", f"{key}={value}")]
    return xmodal("train", "--model", "tern", "--data", shapes, "--device", "cpu", *sets, *args, "--json")


def test_tern_as_published_is_trained_with_its_bert_and_evaluated(xmodal, shapes, region_folder, bert_folder, tmp_path):
    run, local = tmp_path / "run", ["--backbone", f"bottom-up@{region_folder}", "--set", f"text.backbone={bert_folder}"]
    done = train_published(xmodal, shapes, *local, "--out", run)
    assert done.code == 0, done.err
    header, tensors = read_header(run / "model.safetensors"), read_tensors(run / "model.safetensors")
    assert header.architecture["name"] == "post-norm-tern"
    tower = {name: value for name, value in tensors.items() if ".tower." in name}
    assert tower and not any("word_embeddings" in name for name in tower)
    kept = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["best"]
    evaluated = xmodal("eval", run, "--data", shapes, "--split", "val", "--device", "cpu", "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.json["rsum"] == pytest.approx(kept["rsum"], abs=9)


def test_tern_as_published_without_regions_names_the_command(xmodal, shapes, bert_folder, home, tmp_path, monkeypatch):
    monkeypatch.setenv("XMODAL_HOME", str(home))  # without the regions of the test above
    done = train_published(xmodal, shapes, "--set", f"text.backbone={bert_folder}", "--out", tmp_path / "run")
    assert done.code == 1
    assert "no regions were imported" in done.err and "bottom-up@PATH" in done.err
    assert not (tmp_path / "run").exists()


def test_tern_as_published_without_bert_names_the_setting(xmodal, shapes, region_folder, tmp_path, monkeypatch):
    from xmodal_cli.backbones import weights

    def unreachable(url: str) -> None:
        raise OSError("huggingface.co cannot be reached")

    monkeypatch.setattr(weights, "check_reachable", unreachable)
    local = ["--backbone", f"bottom-up@{region_folder}", "--set", "text.backbone=hf/of-nobody/absent-bert"]
    done = train_published(xmodal, shapes, *local, "--out", tmp_path / "run")
    assert done.code == 1
    assert "hf/of-nobody/absent-bert are not cached and cannot be downloaded" in done.err
    assert "set text.backbone to its path" in done.err
    assert not (tmp_path / "run").exists()
