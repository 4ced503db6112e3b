"""Models and runs of version 0.1.0 are read by the present code, and compute what they computed then."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli import starter
from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.config import from_dict, load_config, to_dict
from xmodal_cli.config.renames import RENAMED, RENAMED_COMPONENTS
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.captioners import caption_features, load_captioner
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.models.model_file import read_header
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.recipes import train
from xmodal_cli.trainers.resume import check_folder

FIXTURES = Path(__file__).parent / "fixtures"
MODELS = {name: FIXTURES / f"{name}-0.1.0.safetensors" for name in ("matcher", "captioner")}
HARD_ATTENTION = FIXTURES / "hard-attention-0.1.0.safetensors"
RUN_CONFIG = FIXTURES / "run-config-0.1.0.toml"
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "expected-0.1.0.json").read_text(encoding="utf-8"))
EXACT = {"rtol": 0.0, "atol": 2e-6}  # the same features
FROM_IMAGES = {"rtol": 0.0, "atol": 1e-3}  # features that each processor computes for itself


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """(3, cells, 208) float32, the same on every machine."""
    shape = (3, EXPECTED["cells"], 208)
    return np.sin(np.arange(np.prod(shape), dtype=np.float64)).reshape(shape).astype(np.float32)


@pytest.fixture(scope="module")
def image_features(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """(3, cells, 208) float32: three test images of ``shapes`` through the backbone of both models."""
    shapes = make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=0, num_val=0, num_test=3)
    meta = read_header(MODELS["matcher"]).meta
    backbone = build_backbone(meta.backbone, meta.kind, meta.crops)
    backbone.to(Compute("cpu", "fp32"))
    images = [Image.open(path).convert("RGB") for path in sorted((shapes / "images").glob("*.png"))]
    with torch.inference_mode():
        return backbone.encode(torch.cat([backbone.preprocess(image) for image in images])).float().numpy()


def old_names(tables: dict[str, Any], section: str = "") -> set[str]:
    """Paths of settings in ``tables`` that have been renamed."""
    found = {f"{section}{key}" for key in tables} & set(RENAMED)
    for key, value in tables.items():
        if isinstance(value, dict):
            found |= old_names(value, f"{section}{key}.")
        elif isinstance(value, str) and value in RENAMED_COMPONENTS.get(f"{section}{key}", {}):
            found.add(f"{section}{key}={value}")
    return found


def lookup(tables: dict[str, Any], path: str) -> Any:
    """The value of a setting, None where there is none."""
    found: Any = tables
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def raw_header(file: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        header: dict[str, Any] = json.loads(opened.metadata()["xmodal"])
    return header


@pytest.mark.parametrize("file", [*MODELS.values(), *starter.folder().glob("*.safetensors")], ids=lambda f: f.stem)
def test_headers_are_upgraded_when_they_are_read(file: Path) -> None:
    before, header = raw_header(file), read_header(file)
    assert old_names(before["training"])
    assert not old_names(header.training)
    assert not old_names({"model": header.architecture})
    config = from_dict(before["training"])
    assert from_dict(header.training) == config
    for old, new in RENAMED.items():
        section = old.rpartition(".")[0]
        value = lookup(before["training"], old)
        assert value is None or value == lookup(to_dict(config), f"{section}.{new}")


def test_the_architecture_is_upgraded_too() -> None:
    assert raw_header(MODELS["captioner"])["architecture"]["name"] == "quick-transformer"
    assert read_header(MODELS["captioner"]).architecture["name"] == "standardized-transformer"


def test_a_matcher_gives_the_same_vectors(features: np.ndarray) -> None:
    matcher = load_matcher(str(MODELS["matcher"]), Compute("cpu", "fp32"))
    assert matcher.info.similarity == "order"
    np.testing.assert_allclose(matcher.embed_texts(EXPECTED["captions"]), EXPECTED["caption_vectors"], **EXACT)
    np.testing.assert_allclose(matcher.embed_features(features), EXPECTED["feature_vectors"], **EXACT)


def test_a_matcher_gives_the_same_vectors_of_images(image_features: np.ndarray) -> None:
    matcher = load_matcher(str(MODELS["matcher"]), Compute("cpu", "fp32"))
    np.testing.assert_allclose(matcher.embed_features(image_features), EXPECTED["image_vectors"], **FROM_IMAGES)


@pytest.mark.parametrize("source", ["feature", "image"])
def test_a_captioner_generates_the_same_captions(source: str, request: pytest.FixtureRequest) -> None:
    values = torch.from_numpy(request.getfixturevalue("features" if source == "feature" else "image_features"))
    captioner = load_captioner(str(MODELS["captioner"]), Compute("cpu", "fp32"))
    found = caption_features([captioner], [values], captioner.decoding)
    expected = EXPECTED[f"{source}_captions"]
    tolerance = 1e-5 if source == "feature" else 1e-3
    assert [[caption.text for caption in captions] for captions in found] == [
        [caption["text"] for caption in captions] for captions in expected
    ]
    for captions, others in zip(found, expected, strict=True):
        scores = [other["score"] for other in others]
        assert [caption.score for caption in captions] == pytest.approx(scores, abs=tolerance)


def test_old_hard_attention_generates_the_same_captions(features: np.ndarray) -> None:
    """It is called gumbel now, and selects the most probable cell."""
    assert raw_header(HARD_ATTENTION)["architecture"]["args"]["attention"] == "hard"
    captioner = load_captioner(str(HARD_ATTENTION), Compute("cpu", "fp32"))
    assert captioner.info.header.architecture["args"]["attention"] == "gumbel"
    assert captioner.info.config.model.args["attention"] == "gumbel"
    found = caption_features([captioner], [torch.from_numpy(features)], captioner.decoding)
    expected = EXPECTED["hard_attention_captions"]
    assert [[caption.text for caption in n_best] for n_best in found] == [[c["text"] for c in n] for n in expected]
    scores = [other["score"] for n_best in expected for other in n_best]
    assert [caption.score for n_best in found for caption in n_best] == pytest.approx(scores, abs=1e-4)


def test_the_config_of_an_old_run_is_read_with_its_values() -> None:
    before = tomllib.loads(RUN_CONFIG.read_text(encoding="utf-8"))
    config = from_dict(before)
    assert old_names(before) == {old for old in RENAMED if ".args." not in old} | {"model.name=quick-transformer"}
    assert not old_names(to_dict(config))
    assert config == from_dict(read_header(MODELS["captioner"]).training)
    assert (config.captioning.tag_prob, config.training.group_captions_by_image) == (0.2, True)
    assert load_config(str(RUN_CONFIG)) == config


def test_an_old_run_is_resumed_with_the_settings_of_today(tmp_path: Path) -> None:
    """The preset of today and the run's own settings are the same settings; others are refused."""
    settings = ["model.embed_dim=32", "captioning.tag_prob=0.2", "training.epochs=3", "training.tensorboard=false"]
    shutil.copy(RUN_CONFIG, tmp_path / "config.toml")
    (tmp_path / MODEL_FILE).touch()  # a run without a model is started again
    check_folder(tmp_path, load_config("demo-captioner", settings), resume=True)
    with pytest.raises(ConfigError, match="different settings"):
        check_folder(tmp_path, load_config("demo-captioner", [*settings, "captioning.tag_prob=0.3"]), resume=True)


@pytest.mark.parametrize("name", MODELS)
def test_an_old_checkpoint_is_of_the_same_origin(name: str) -> None:
    """The digest in ``last/state.safetensors`` does not change with the names of components."""
    assert train._origin(read_header(MODELS[name])) == EXPECTED["origins"][name]
