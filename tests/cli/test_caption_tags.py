"""``xmodal caption --tags``: words, the tags of a tagger, or none; with model files of random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.random_captioner import write_captioner
from helpers.tag_fixtures import write_tagger
from helpers.toy_captioner import paint
from PIL import Image

import xmodal_cli as xmodal_api
from xmodal_cli.backbones import image_backbones
from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.device import Compute
from xmodal_cli.inference.captioners import caption_features, load_captioner
from xmodal_cli.inference.taggers import load_tagger
from xmodal_cli.models.model_file import read_header, read_tensors, write_model
from xmodal_cli.types import FeatureMeta, ImageBackbone

Run = Callable[..., Any]
TAGS = ("zebra", "dog", "cat", "grass", "runs", "white")  # the captioner does not know the first one


@pytest.fixture(scope="module")
def backbone() -> ImageBackbone:
    return build_backbone("efficientnet-lite2", "grid")


@pytest.fixture
def meta(backbone: ImageBackbone, monkeypatch: pytest.MonkeyPatch) -> FeatureMeta:
    monkeypatch.setattr(image_backbones, "build_backbone", lambda name, kind, crops: backbone)
    return backbone.meta


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    files = [paint(tmp_path / "p" / f"{n}.png", left, "white") for n, left in enumerate(("red", "green"))]
    for number in range(2, 5):
        pixels = rng.integers(0, 256, (7, 5 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 200)).save(tmp_path / "p" / f"{number}.png")
        files.append(tmp_path / "p" / f"{number}.png")
    return files


@pytest.fixture
def captioner(tmp_path: Path, meta: FeatureMeta) -> Path:
    return write_captioner(tmp_path / "captioner.safetensors", meta)


@pytest.fixture
def caption(xmodal: Run, captioner: Path) -> Run:
    """``xmodal caption --json`` in float32."""
    return lambda *words: xmodal(
        "caption", *words, "--model", captioner, "--device", "cpu", "--precision", "fp32", "--json"
    )


def test_auto_gives_each_photo_the_best_tags_of_the_only_tagger(
    caption: Run, captioner: Path, photos: list[Path], meta: FeatureMeta, home: Path, backbone: ImageBackbone
) -> None:
    write_tagger(home / "models" / "words.safetensors", meta, TAGS)
    outcome = caption(*photos, "--tags", "auto")
    assert outcome.code == 0, outcome.err
    plain = caption(*photos).json
    assert "tags" not in plain[0]
    fp32 = Compute("cpu", "fp32")
    tagger, loaded = load_tagger("words", fp32), load_captioner(str(captioner), fp32)
    for photo, entry in zip(photos, outcome.json, strict=True):
        with Image.open(photo) as image:
            features = backbone.encode(backbone.preprocess(image.convert("RGB"))).float().clone()
        (probabilities,) = tagger.probabilities(features)
        order = [TAGS[n] for n in (-probabilities).argsort() if TAGS[n] != "zebra"]
        assert entry["tags"] == order[:5]
        words = loaded.tokenizer.word_ids()
        prompt = [*(words[tag] for tag in entry["tags"]), loaded.tokenizer.special_tokens.bos]
        ((expected, *_),) = caption_features([loaded], [features], loaded.decoding, [prompt])
        assert entry["captions"][0]["text"] == expected.text
    assert len({tuple(entry["tags"]) for entry in outcome.json}) > 1
    assert [e["captions"] for e in outcome.json] != [e["captions"] for e in plain]


def test_a_tagger_can_be_named_and_be_the_default(
    caption: Run, xmodal: Run, photos: list[Path], meta: FeatureMeta, home: Path
) -> None:
    for seed, name in enumerate(("one", "two")):
        write_tagger(home / "models" / f"{name}.safetensors", meta, TAGS, seed)
    outcome = caption(photos[0], "--tags", "auto")
    assert outcome.code == 1
    assert "there are several taggers: one, two" in outcome.err
    assert "xmodal models default one" in outcome.err
    named = caption(*photos, "--tags", "auto:two").json
    assert named != caption(*photos, "--tags", "auto:one").json
    assert xmodal("models", "default", "two").code == 0
    assert xmodal("models", "default", "--json").json["tagger"] == "two"
    assert caption(*photos, "--tags", "auto").json == named
    listed = {entry["name"]: entry for entry in xmodal("models", "list", "--json").json}
    assert (listed["two"]["kind"], listed["two"]["default"], listed["one"]["default"]) == ("tagger", True, False)


def test_without_a_tagger_the_hint_trains_one(caption: Run, photos: list[Path], meta: FeatureMeta) -> None:
    outcome = caption(photos[0], "--tags", "auto")
    assert outcome.code == 1
    assert "there is no tagger" in outcome.err
    assert "xmodal train --model tagger --data DATA" in outcome.err


def test_another_kind_of_model_is_not_a_tagger(caption: Run, photos: list[Path], meta: FeatureMeta) -> None:
    outcome = caption(photos[0], "--tags", "auto:starter")
    assert outcome.code == 1
    assert "starter is a matcher, not a tagger" in outcome.err


def test_a_captioner_trained_with_a_tagger_uses_it_by_default(
    caption: Run, captioner: Path, photos: list[Path], meta: FeatureMeta, home: Path
) -> None:
    plain = caption(*photos).json
    tagger = write_tagger(home / "models" / "words.safetensors", meta, TAGS)
    header = read_header(captioner)
    record = {"name": "words", "fingerprint": read_header(tagger).fingerprint}
    training = {**header.training, "captioning": {**header.training["captioning"], "tagger": "words", "num_tags": 2}}
    tensors = read_tensors(captioner)
    architecture = {**header.architecture, "tagger": record}
    write_model(captioner, replace(header, architecture=architecture, training=training), tensors)
    tagged = caption(*photos).json
    assert {len(entry["tags"]) for entry in tagged} == {2}
    assert tagged == caption(*photos, "--tags", "auto").json
    assert caption(*photos, "--tags", "none").json == plain
    assert caption(photos[0], "--tags", "dog").json[0]["tags"] == ["dog"]
    write_tagger(home / "models" / "words.safetensors", meta, TAGS, seed=3)
    outcome = caption(photos[0])
    assert outcome.code == 1
    assert "another version of the tagger words" in outcome.err
    assert caption(photos[0], "--tags", "auto:words").code == 0


def test_the_python_api_tags_and_captions(captioner: Path, photos: list[Path], meta: FeatureMeta, home: Path) -> None:
    write_tagger(home / "models" / "words.safetensors", meta, TAGS)
    tagger = xmodal_api.load("words", device="cpu", precision="fp32")
    assert isinstance(tagger, xmodal_api.TaggerModel)
    assert tagger.tags == TAGS
    with Image.open(photos[1]) as image:
        results = tagger.tag([photos[0], image], num=3)
    assert [result.path for result in results] == [str(photos[0]), "<image 1>"]
    for result in results:
        scores = [tag.score for tag in result.tags]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True) and 0 < scores[-1] <= scores[0] < 1
    with pytest.raises(xmodal_api.ConfigError, match="num must be at least 1"):
        tagger.tag(photos[0], num=0)
    with pytest.raises(xmodal_api.BadData):
        tagger.tag("nothing.jpg")
    model = xmodal_api.load(captioner, device="cpu", precision="fp32")
    assert isinstance(model, xmodal_api.CaptionerModel)
    captions = {tags: model.caption(photos, tags=tags)[0].text for tags in ("none", "auto", "auto:words")}
    assert captions["auto"] == captions["auto:words"] and model.caption(photos)[0].text == captions["none"]
