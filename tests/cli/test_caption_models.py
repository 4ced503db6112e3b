"""``xmodal caption`` with model files in the format of training: real networks with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.random_captioner import write_captioner
from helpers.toy_captioner import HalvesBackbone, paint
from PIL import Image

from xmodal_cli import paths
from xmodal_cli.backbones import image_backbones
from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.device import Compute
from xmodal_cli.inference import image_captioning
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.models.model_file import ModelHeader, read_header, write_model
from xmodal_cli.types import Decoding, FeatureMeta, ImageBackbone

Run = Callable[..., Any]
BACKBONE = "efficientnet-lite2"


@pytest.fixture(scope="module")
def backbone() -> ImageBackbone:
    return build_backbone(BACKBONE, "grid")


@pytest.fixture
def meta(backbone: ImageBackbone, monkeypatch: pytest.MonkeyPatch) -> FeatureMeta:
    """The meta of the backbone, which is loaded once for all tests."""
    monkeypatch.setattr(image_backbones, "build_backbone", lambda name, kind, crops: backbone)
    return backbone.meta


@pytest.fixture
def caption(xmodal: Run) -> Run:
    """``xmodal caption`` in float32."""
    return lambda *words: xmodal("caption", *words, "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    files = [paint(tmp_path / "p" / f"{n}.png", left, "white") for n, left in enumerate(("red", "green", "blue"))]
    for number in range(3, 6):
        pixels = rng.integers(0, 256, (7, 5 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 200)).save(tmp_path / "p" / f"{number}.png")
        files.append(tmp_path / "p" / f"{number}.png")
    return files


@pytest.mark.parametrize("name", ["transformer", "show-attend-tell"])
def test_captions_in_batches_equal_captions_of_single_photos(
    caption: Run, photos: list[Path], tmp_path: Path, meta: FeatureMeta, backbone: ImageBackbone, name: str
) -> None:
    file = write_captioner(tmp_path / "m.safetensors", meta, name)
    outcome = caption("p", "--model", file, "--num", 2, "--json")
    assert outcome.code == 0, outcome.err
    loaded = load_captioner(str(file), Compute("cpu", "fp32"))
    for photo, entry in zip(photos, outcome.json, strict=True):
        with Image.open(photo) as image:
            features = backbone.encode(backbone.preprocess(image.convert("RGB"))).float().clone()
        (expected,) = decode(
            loaded.model, features, loaded.tokenizer.special_tokens, Decoding(beam=3, num=2, max_length=8)
        )
        assert [c["text"] for c in entry["captions"]] == [loaded.tokenizer.decode(h.tokens) for h in expected]
        assert [c["score"] for c in entry["captions"]] == pytest.approx([h.score for h in expected], abs=1e-4)
    assert len({entry["captions"][0]["text"] for entry in outcome.json}) > 1


def test_samples_depend_only_on_the_seed(caption: Run, photos: list[Path], tmp_path: Path, meta: FeatureMeta) -> None:
    command = ("p", "--model", write_captioner(tmp_path / "m.safetensors", meta), "--sample", "--json")
    first, again = (caption(*command).json for _ in range(2))
    assert first == again
    assert first != caption(*command, "--set", "decoding.seed=1").json


def test_ensembles(caption: Run, photos: list[Path], tmp_path: Path, meta: FeatureMeta) -> None:
    one, two = (write_captioner(tmp_path / f"{n}.safetensors", meta, seed=n) for n in range(2))
    sat = write_captioner(tmp_path / "sat.safetensors", meta, "show-attend-tell")
    twice = caption("p", "--model", one, "--model", one, "--json").json
    for entry, alone in zip(twice, caption("p", "--model", one, "--json").json, strict=True):
        assert entry["captions"][0]["text"] == alone["captions"][0]["text"]
        assert entry["captions"][0]["score"] == pytest.approx(alone["captions"][0]["score"], abs=1e-4)
    outcome = caption("p", "--model", one, "--model", two, "--model", sat)
    assert (outcome.code, outcome.out.count("\n")) == (0, 6)
    other = write_captioner(tmp_path / "other.safetensors", meta, words="other words altogether")
    outcome = caption("p", "--model", one, "--model", other)
    assert (outcome.code, "different vocabularies" in outcome.err) == (1, True)


def test_the_captioner_set_as_default(caption: Run, xmodal: Run, photos: list[Path], meta: FeatureMeta) -> None:
    runs = paths.runs_dir()
    for name in ("matcher", "new", "old"):
        write_captioner(runs / name / "model.safetensors", meta)
    matcher = runs / "matcher" / "model.safetensors"
    header = read_header(matcher)
    write_model(matcher, ModelHeader(**{**asdict(header), "kind": "matcher"}), {"w": torch.zeros(1)})
    assert xmodal("models", "default", "new").code == 0
    assert "captions by new" in caption(photos[0]).err
    outcome = caption(photos[0], "--model", "matcher")
    assert (outcome.code, outcome.out) == (1, "")
    assert "error: matcher is a matcher, not a captioner\nhint: " in outcome.err
    outcome = caption(photos[0], "--model", "odl")
    assert "hint: did you mean 'old'?" in outcome.err
    outcome = caption(photos[0], "--nearest", "--model", "new")
    assert (outcome.code, "is a captioner, not a matcher" in outcome.err) == (1, True)


def test_a_truncated_model(caption: Run, photos: list[Path], meta: FeatureMeta) -> None:
    file = write_captioner(paths.runs_dir() / "cut" / "model.safetensors", meta)
    file.write_bytes(file.read_bytes()[:-100])
    outcome = caption(photos[0], "--model", "cut")
    assert outcome.code == 1
    assert "truncated" in outcome.err


def test_attention_of_all_architectures(caption: Run, photos: list[Path], tmp_path: Path, meta: FeatureMeta) -> None:
    for name in ("transformer", "show-attend-tell"):
        file = write_captioner(tmp_path / f"{name}.safetensors", meta, name)
        assert caption(photos[3], "--model", file, "--attention", name).code == 0
        assert (tmp_path / name / "3-attention.png").is_file()


def test_attention_over_regions(
    caption: Run, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = HalvesBackbone(kind="regions")
    monkeypatch.setattr(image_captioning, "open_backbone", lambda model: regions)
    for name in ("transformer", "show-attend-tell"):
        file = write_captioner(tmp_path / f"{name}.safetensors", regions.meta, name)
        done = caption(photos[3], "--model", file, "--attention", name)
        assert done.code == 0, done.err
        assert (tmp_path / name / "3-attention.png").is_file()
    file = write_captioner(tmp_path / "clip-gpt2.safetensors", regions.meta, "clip-gpt2")
    done = caption(photos[3], "--model", file, "--attention", "none")
    assert (done.code, "does not return attention over a square grid or regions" in done.err) == (1, True)


def test_out_of_vocabulary_tags(caption: Run, photos: list[Path], tmp_path: Path, meta: FeatureMeta) -> None:
    file = write_captioner(tmp_path / "m.safetensors", meta)
    outcome = caption(photos[0], "--model", file, "--tags", "dog,gras")
    assert (outcome.code, outcome.out) == (1, "")
    assert "the tag 'gras' is not in the captioner's vocabulary\nhint: did you mean 'grass'?" in outcome.err
    assert caption(photos[0], "--model", file, "--tags", "dog, grass").code == 0
