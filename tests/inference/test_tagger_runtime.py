"""Exported taggers give the tags of torch, alone and for a captioner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.random_captioner import write_captioner
from helpers.tag_fixtures import write_tagger

import xmodal_cli as xmodal_api
from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.device import Compute
from xmodal_cli.errors import Unavailable
from xmodal_cli.inference import onnx_image_export
from xmodal_cli.inference.image_encoders import load_backbone
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.onnx_image_export import sample_images
from xmodal_cli.inference.tagger_runtime import load_exported_tagger, tagger_folder
from xmodal_cli.inference.taggers import load_tagger
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import FeatureMeta

TAGS = ("dog", "cat", "grass", "runs", "white", "zebra")


@pytest.fixture(scope="module")
def meta() -> FeatureMeta:
    return build_backbone("efficientnet-lite2", "grid").meta


def test_probabilities_equal_those_of_torch(home: Path, meta: FeatureMeta) -> None:
    info = describe_model(str(write_tagger(home / "models" / "words.safetensors", meta, TAGS)))
    exported, loaded = load_exported_tagger(info, SILENT), load_tagger(info, Compute("cpu", "fp32"))
    features = load_backbone(info.name, meta, SILENT).encode(sample_images(260))
    actual, expected = exported.probabilities(features), loaded.probabilities(features)
    assert (actual.shape, actual.dtype, exported.tags) == ((len(features), len(TAGS)), np.float32, loaded.tags)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.05
    assert load_exported_tagger(info, SILENT).probabilities(features[:0]).shape == (0, len(TAGS))


def test_an_export_that_differs_is_refused(home: Path, meta: FeatureMeta, monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe_model(str(write_tagger(home / "models" / "words.safetensors", meta, TAGS)))
    load_backbone(info.name, meta, SILENT)
    monkeypatch.setattr(onnx_image_export, "MIN_COSINE", 2.0)
    for _ in range(2):
        with pytest.raises(Unavailable, match="differ"):
            load_exported_tagger(info, SILENT)
    assert [file.name for file in tagger_folder(info.fingerprint).iterdir()] == ["export.json"]


def test_captions_with_tags_equal_those_of_torch(
    home: Path, tmp_path: Path, meta: FeatureMeta, xmodal: Callable[..., Any]
) -> None:
    from PIL import Image

    write_tagger(home / "models" / "words.safetensors", meta, TAGS)
    captioner = write_captioner(tmp_path / "captioner.safetensors", meta)
    rng = np.random.default_rng(0)
    for number in range(3):
        pixels = rng.integers(0, 256, (7, 5 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 200)).save(tmp_path / f"{number}.png")
    photos = sorted(tmp_path.glob("*.png"))
    settings = ("--model", captioner, "--tags", "auto", "--device", "cpu", "--precision", "fp32", "--json")
    exported, with_torch = (xmodal("caption", *photos, *settings, "--runtime", r).json for r in ("onnx", "torch"))
    assert [entry["tags"] for entry in exported] == [entry["tags"] for entry in with_torch]
    texts = [[entry["captions"][0]["text"] for entry in result] for result in (exported, with_torch)]
    assert texts[0] == texts[1] and len(set(texts[0])) > 1
    models = [
        xmodal_api.load("words", device="cpu", precision="fp32", runtime=runtime) for runtime in ("onnx", "torch")
    ]
    ours, others = ([[tag.tag for tag in image.tags] for image in model.tag(photos)] for model in models)
    assert ours == others
