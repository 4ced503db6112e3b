"""``xmodal eval``: cut-offs, decoding settings, and what is refused before a model is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xmodal_cli.inference import captioners, matchers
from xmodal_cli.models.model_file import read_header, read_tensors, write_model

SMALL = (
    "features.kind=global",
    "model.embed_dim=16",
    "data.min_word_count=1",
    "training.epochs=1",
    "training.batch_size=24",
    "training.device=cpu",
    "training.precision=fp32",
    "training.tensorboard=false",
)


@pytest.fixture(scope="module")
def captioner(planted, tmp_path_factory):
    """A captioner of one epoch, and a copy with another vocabulary. Read-only."""
    from xmodal_cli.config import load_config
    from xmodal_cli.recipes.train import train_model

    folder = tmp_path_factory.mktemp("captioners")
    train_model(load_config("transformer", SMALL), str(planted), folder / "one")
    train_model(load_config("transformer", [*SMALL, "data.min_word_count=100"]), str(planted), folder / "two")
    return folder


@pytest.fixture
def nothing_loaded(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a model was loaded before the checks")

    monkeypatch.setattr(captioners, "load_captioner", fail)
    monkeypatch.setattr(matchers, "load_matcher", fail)


def ranks_to_recall(ranks, k):
    return 100 * float(np.mean(np.array(ranks) <= k))


def test_the_cut_offs_of_recall_are_those_of_the_ranks(xmodal, trained, planted, tmp_path):
    arguments = ("eval", trained, "--data", planted, "--top-k", "50,1,3,1", "--bootstrap", "20")
    done = xmodal(*arguments, "--ranks", tmp_path / "r.jsonl", "--json")
    assert done.code == 0, done.err
    import json

    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    for side in ("image_to_text", "text_to_image"):
        ranks = [row["rank"] for row in rows if row["direction"] == side]
        names = [name for name in done.json[side] if name.startswith("R@")]
        assert names == ["R@1", "R@3", "R@50"]
        for name in names:
            assert done.json[side][name] == pytest.approx(ranks_to_recall(ranks, int(name[2:])))
        assert set(done.json["confidence"][side]) == set(done.json[side])
    plain = xmodal("eval", trained, "--data", planted, "--json").json
    assert done.json["rsum"] == plain["rsum"]
    table = xmodal("eval", trained, "--data", planted, "--top-k", "50,1,3")
    assert "i2t R@50" in table.out
    assert "R@10" not in table.out


@pytest.mark.parametrize("text", ["0", "-1", "1,x", ",", "1,,5", "1.5", "1e9"])
def test_cut_offs_that_are_no_whole_numbers_are_refused(xmodal, trained, planted, text, nothing_loaded):
    done = xmodal("eval", trained, "--data", planted, "--top-k", text)
    assert done.code == 1
    assert "--top-k must be whole numbers" in done.err


def test_the_decoding_settings_of_captioners(xmodal, captioner, planted, monkeypatch):
    monkeypatch.setenv("PATH", "")  # without Java, METEOR takes no time
    settings = ("--set", "decoding.max_length=2", "--set", "decoding.length_penalty=0.5", "--beam", "2")
    done = xmodal("eval", captioner / "one", "--data", planted, *settings, "--json")
    assert done.code == 0, done.err
    assert done.json["beam"] == 2
    assert done.json["decoding"]["max_length"] == 2
    assert done.json["mean_length"] <= 2
    beam = xmodal("eval", captioner / "one", "--data", planted, "--beam", "2", "--json")
    assert beam.json["mean_length"] > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "decoding.beam=0"], "decoding.beam must be at least 1"),
        (["--set", "decoding.bem=3"], "there is no setting called 'decoding.bem'"),
        (["--set", "optimizer.lr=3"], "is not a decoding setting"),
        (["--top-k", "1,5"], "--top-k applies only to matchers"),
        (["--split", "nowhere"], "has no captioned images in nowhere"),
        (["--data", "no/such"], "there is no dataset at no/such"),
    ],
)
def test_captioners_are_checked_before_they_are_loaded(xmodal, captioner, planted, options, message, nothing_loaded):
    done = xmodal("eval", captioner / "one", "--data", planted, *options)
    assert (done.code, done.out) == (1, "")
    assert message in done.err.splitlines()[0]


def test_other_vocabularies_are_refused_before_a_member_is_evaluated(xmodal, captioner, planted, nothing_loaded):
    done = xmodal("eval", captioner / "one", captioner / "two", "--data", planted, "--ensemble")
    assert (done.code, done.out) == (1, "")
    assert "one and two have different vocabularies" in done.err


def test_a_huge_beam_is_refused_with_one_that_fits(xmodal, captioner, planted, monkeypatch):
    from xmodal_cli.captioning import decoding_memory

    monkeypatch.setattr(decoding_memory, "available_bytes", lambda: 10**6)
    done = xmodal("eval", captioner / "one", "--data", planted, "--beam", "100000")
    assert done.code == 1
    assert "decoding.beam=100,000 needs about" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "46"], "45 images cannot be split into 46 folds"),
        (["--split", "nowhere"], "has no captioned images in nowhere"),
        (["--set", "decoding.beam=3"], "--set applies only to captioners"),
        (["--bootstrap", "10000000"], "--bootstrap must be at most"),
    ],
)
def test_matchers_are_checked_before_they_are_loaded(xmodal, trained, planted, options, message, nothing_loaded):
    done = xmodal("eval", trained, "--data", planted, *options)
    assert (done.code, done.out) == (1, "")
    assert message in done.err.splitlines()[0]


def test_other_similarities_are_refused_before_a_member_is_evaluated(
    xmodal, trained, planted, tmp_path, nothing_loaded
):
    header = read_header(trained / "model.safetensors")
    other = replace(header, similarity="order")
    write_model(tmp_path / "other.safetensors", other, read_tensors(trained / "model.safetensors"))
    done = xmodal("eval", trained, tmp_path / "other.safetensors", "--data", planted, "--ensemble")
    assert (done.code, done.out) == (1, "")
    assert "one uses the cosine, the other the order similarity" in done.err
