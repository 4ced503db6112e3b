"""``xmodal models average``: the mean of the weights, and models that cannot be averaged."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch

from xmodal_cli.models.model_file import ModelHeader, read_header, read_tensors, write_model
from xmodal_cli.types import FeatureMeta

HEADER = ModelHeader(
    kind="matcher",
    architecture={"name": "vse", "embed_dim": 4, "vocab_size": 9},
    tokenizer='{"a": 1}',
    backbone=asdict(FeatureMeta("vgg19", "f" * 64, "global", 6, {"side": 224})),
    similarity="cosine",
    training={"seed": 1},
    dataset={"name": "toy"},
    metrics={"rsum": 300.0},
)


def weights(seed: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(4, 6, generator=rng),
        "half": torch.randn(3, generator=rng).half(),
        "positions": torch.arange(5),
        "flag": torch.tensor(True),
    }


@pytest.fixture
def models(tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for seed, file in enumerate(files):
        write_model(file, replace(HEADER, training={"seed": seed}), weights(seed))
    return files


def test_the_weights_are_the_mean(xmodal, models, tmp_path):
    out = tmp_path / "new" / "soup.safetensors"
    result = xmodal("models", "average", *models, "--out", out, "--json").json
    mean, members = read_tensors(out), [weights(seed) for seed in range(3)]
    torch.testing.assert_close(
        mean["weight"], sum(m["weight"].double() for m in members).div(3).float(), rtol=0, atol=0
    )
    torch.testing.assert_close(mean["half"], sum(m["half"].double() for m in members).div(3).half(), rtol=0, atol=0)
    assert {name: value.dtype for name, value in mean.items()} == {n: v.dtype for n, v in members[0].items()}
    assert mean["positions"].tolist() == [0, 1, 2, 3, 4]
    header = read_header(out)
    sources = [{"name": f.stem, "fingerprint": read_header(f).fingerprint} for f in models]
    assert result == {"file": str(out), "average_of": sources, "fingerprint": header.fingerprint}
    assert header.training == {"seed": 0, "average_of": sources}
    assert header.metrics == {}
    assert header.fingerprint not in [entry["fingerprint"] for entry in sources]
    rest = {"training": {}, "metrics": {}, "fingerprint": ""}
    assert replace(header, **rest) == replace(HEADER, **rest)


def test_the_mean_of_one_model_and_itself_is_that_model(xmodal, models, tmp_path):
    out = tmp_path / "same.safetensors"
    assert "average of 2 models" in xmodal("models", "average", models[0], models[0], "--out", out).out
    assert read_header(out).fingerprint == read_header(models[0]).fingerprint


def other_header(**changes):
    return replace(HEADER, **changes), weights(1)


def other_weights(name, value):
    return HEADER, {**weights(1), name: value}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (other_header(similarity="order"), "differ in similarity"),
        (other_header(kind="captioner"), "differ in kind"),
        (other_header(tokenizer='{"b": 1}'), "differ in tokenizer"),
        (other_header(architecture={**HEADER.architecture, "name": "tern"}), "differ in architecture"),
        (other_header(backbone={**HEADER.backbone, "fingerprint": "e" * 64}), "differ in features"),
        (other_weights("weight", torch.zeros(4, 7)), "differ in names, shapes or dtypes"),
        (other_weights("half", torch.zeros(3)), "differ in names, shapes or dtypes"),
        (other_weights("more", torch.zeros(3)), "differ in names, shapes or dtypes"),
        (other_weights("positions", torch.arange(1, 6)), "the integer tensor positions differs"),
    ],
)
def test_incompatible_models(xmodal, models, tmp_path, other, reason):
    write_model(models[1], *other)
    done = xmodal("models", "average", *models, "--out", tmp_path / "soup.safetensors")
    assert (done.code, done.out) == (1, "")
    assert "a and b cannot be averaged: the" in done.err
    assert reason in done.err
    assert "--ensemble" in done.err
    assert not (tmp_path / "soup.safetensors").exists()


def test_the_output_file(xmodal, models, tmp_path):
    before = models[0].read_bytes()
    done = xmodal("models", "average", *models, "--out", models[0], "--force")
    assert "is one of the models to average" in done.err
    done = xmodal("models", "average", *models, "--out", tmp_path / "soup.pt")
    assert "does not end with .safetensors" in done.err
    existing = tmp_path / "there.safetensors"
    existing.write_bytes(b"mine")
    assert "already exists" in xmodal("models", "average", *models, "--out", existing).err
    assert existing.read_bytes() == b"mine"
    assert xmodal("models", "average", *models, "--out", existing, "--force").code == 0
    assert read_header(existing).kind == "matcher"
    assert models[0].read_bytes() == before


def test_too_few_and_unknown_models(xmodal, models, tmp_path):
    out = tmp_path / "soup.safetensors"
    assert "averaging needs at least two models" in xmodal("models", "average", models[0], "--out", out).err
    assert "there is no model called 'nosuch'" in xmodal("models", "average", models[0], "nosuch", "--out", out).err
