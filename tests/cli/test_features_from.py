"""``--features-from``: models of precomputed features with a declared backbone index, search and caption photos."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.precomputed import photo_folder, random_backbone, write_precomputed

from xmodal_cli.config import FeaturesConfig, load_config
from xmodal_cli.models.model_file import read_header
from xmodal_cli.reporter import SILENT
from xmodal_cli.trainers.preparation import prepare

SMALL = ["model.embed_dim=32", "training.epochs=2", "training.batch_size=32", "training.tensorboard=false"]
BOW = ["model.text_encoder=bow", "model.text_encoder.args={word_dim=24}"]
SET = [part for setting in SMALL for part in ("--set", setting)]
MATCHER = ["train", "--model", "vse", *SET, *(part for setting in BOW for part in ("--set", setting))]
CAPTIONER = ["train", "--model", "transformer", *SET, "--set", "features.kind=global", "--set", "model.args={}"]
CPU = ["--device", "cpu", "--precision", "fp32"]


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    return random_backbone(tmp_path, 0)


@pytest.fixture
def arrays(shapes_images: Path, backbone: str, tmp_path: Path) -> Path:
    return write_precomputed(tmp_path / "arrays", shapes_images, FeaturesConfig(backbone))


def test_a_model_of_declared_features_is_used_with_photos(
    xmodal, arrays, backbone, shapes_images, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "")  # METEOR, which needs Java, would take most of the time
    photos = photo_folder(shapes_images)
    declared = ["--data", arrays, "--features-from", backbone, "--check-photos", photos, *CPU]
    done = xmodal(*MATCHER, *declared, "--out", tmp_path / "m")
    assert done.code == 0, done.err
    assert "median cosine of 1.000" in done.err
    header = read_header(tmp_path / "m" / "model.safetensors")
    assert header.meta.backbone == header.features_from.backbone == backbone
    assert header.features_from.cosine == pytest.approx(1, abs=1e-3)

    indexed = xmodal("index", photos, "--index", "p", "--model", tmp_path / "m", *CPU)
    assert indexed.code == 0, indexed.err
    assert "never compared" not in indexed.err
    found = xmodal("search", "a red circle", "--index", "p", "-k", 3, "--json")
    assert found.code == 0 and len(found.json["hits"]) == 3
    like = xmodal("search", found.json["hits"][0]["path"], "--index", "p", "--json")
    assert like.json["hits"][0]["path"] == found.json["hits"][0]["path"]

    of_arrays = xmodal("eval", tmp_path / "m", "--data", arrays, "--json", *CPU).json
    of_images = xmodal("eval", tmp_path / "m", "--data", shapes_images, "--json", *CPU).json
    assert of_images["rsum"] == pytest.approx(of_arrays["rsum"], abs=1)

    done = xmodal(*CAPTIONER, *declared, "--out", tmp_path / "c")
    assert done.code == 0, done.err
    photo = next(photos.iterdir())
    assert xmodal("caption", photo, "--model", tmp_path / "c", *CPU, "--json").json[0]["captions"]
    scores = [xmodal("eval", tmp_path / "c", "--data", d, "--json", *CPU).json for d in (arrays, shapes_images)]
    assert scores[0]["cider"] == pytest.approx(scores[1]["cider"], abs=0.02)


def test_a_wrong_backbone_is_refused_before_training(xmodal, arrays, shapes_images, tmp_path):
    other = random_backbone(tmp_path, 1)
    run = ["--data", arrays, "--features-from", other, *CPU, "--out", tmp_path / "m"]
    refused = xmodal(*MATCHER, *run, "--check-photos", photo_folder(shapes_images))
    assert refused.code == 1
    assert "a median cosine of" in refused.err and "name the backbone" in refused.err
    assert not (tmp_path / "m" / "config.toml").exists()


def test_without_photos_the_model_warns_until_it_is_checked(xmodal, arrays, backbone, shapes_images, tmp_path):
    run, photos = tmp_path / "m", photo_folder(shapes_images)
    assert xmodal(*MATCHER, "--data", arrays, "--features-from", backbone, *CPU, "--out", run).code == 0
    assert "not checked" in xmodal("models", "info", run).out
    indexed = xmodal("index", photos, "--index", "p", "--model", run, *CPU)
    assert indexed.code == 0
    assert indexed.err.count("never compared") == 1 and "xmodal models check" in indexed.err
    assert "never compared" not in xmodal("index", photos, "--index", "p", *CPU).err  # no photo is read
    before = read_header(run / "model.safetensors")
    assert "--data" in xmodal("models", "check", run, "--photos", photos).err
    checked = xmodal("models", "check", run, "--photos", photos, "--data", arrays, *CPU[:2], "--json")
    assert checked.code == 0, checked.err
    assert checked.json["features_from"]["cosine"] == pytest.approx(1, abs=1e-3)
    after = read_header(run / "model.safetensors")
    assert (after.fingerprint, after.training, after.metrics) == (before.fingerprint, before.training, before.metrics)
    again = xmodal("index", photos, "--index", "p", "--model", run, "--rebuild", *CPU)
    assert again.code == 0 and "never compared" not in again.err
    settings = ["training.device=cpu", f"data.features_from={backbone}"]
    for folder, known in ((run, after.features_from.cosine), (tmp_path / "new", None)):  # a resumed run, a new one
        resumed = prepare(load_config("vse", settings), str(arrays), folder, None, SILENT)
        assert resumed.header.features_from.cosine == known


def test_an_unchecked_wrong_model_is_found_by_models_check(xmodal, arrays, shapes_images, tmp_path):
    run = tmp_path / "m"
    other = random_backbone(tmp_path, 1)
    assert xmodal(*MATCHER, "--data", arrays, "--features-from", other, *CPU, "--out", run).code == 0
    content = (run / "model.safetensors").read_bytes()
    check = ["models", "check", run, "--photos", photo_folder(shapes_images), "--data"]
    assert "a median cosine of" in xmodal(*check, arrays).err
    assert "was not trained on" in xmodal(*check, shapes_images).err
    assert (run / "model.safetensors").read_bytes() == content


def test_the_declaration_is_registered_with_the_dataset(xmodal, arrays, backbone, shapes_images, home, tmp_path):
    photos = photo_folder(shapes_images)
    add = ["data", "add", "mine", arrays, "--features-from", backbone]
    assert xmodal(*add, "--check-photos", photos).code == 0
    facts = xmodal("data", "info", "mine", "--json").json["features_from"]
    assert (facts["backbone"], facts["crops"]) == (backbone, 1) and facts["cosine"] > 0.99
    assert "declared as timm/test_vit" in xmodal("data", "info", "mine").out
    for declared in ([], ["--features-from", backbone]):
        shutil.rmtree(tmp_path / "m", ignore_errors=True)
        assert xmodal(*MATCHER, "--data", "mine", *CPU, *declared, "--out", tmp_path / "m").code == 0
        assert read_header(tmp_path / "m" / "model.safetensors").features_from.cosine == facts["cosine"]
    assert "not checked" not in xmodal("models", "info", tmp_path / "m").out
    registered = (home / "data" / "registry.json").read_bytes()
    for more in (
        ["--check-photos", photos, "--features-from", random_backbone(tmp_path, 1)],
        ["--features-from", "vgg20"],
    ):
        assert xmodal("data", "add", "mine", arrays, *more).code == 1
    assert xmodal("data", "add", "mine", arrays, "--check-photos", photos).code == 2
    assert (home / "data" / "registry.json").read_bytes() == registered
    entries = json.loads(registered)
    entries["mine"]["features_from"] = {"backbone": 3}
    (home / "data" / "registry.json").write_text(json.dumps(entries))
    assert "registry.json cannot be read: features_from of the entry 'mine'" in xmodal("data", "info", "mine").err


def test_undeclared_features_need_a_declaration(xmodal, arrays, backbone, shapes_images, tmp_path):
    photos, plain = photo_folder(shapes_images), tmp_path / "plain"
    assert xmodal(*MATCHER, "--data", arrays, *CPU, "--out", plain).code == 0
    refused = xmodal("index", photos, "--model", plain).err
    assert "--features-from BACKBONE" in refused and "exporting" not in refused
    assert "--features-from" in xmodal(*MATCHER, "--data", arrays, *CPU, "--check-photos", photos).err
    assert "not trained on precomputed" in xmodal("models", "check", plain, "--photos", photos).err
    images = xmodal(*MATCHER, "--data", shapes_images, *CPU, "--features-from", backbone)
    assert "has images" in images.err and "--backbone" in images.err
    # a model of undeclared features is evaluated on declared ones too
    assert xmodal("data", "add", "mine", arrays, "--features-from", backbone).code == 0
    declared, undeclared = (xmodal("eval", plain, "--data", d, "--json", *CPU).json for d in ("mine", arrays))
    assert declared["rsum"] == undeclared["rsum"]


def test_a_captioner_of_other_features_is_not_evaluated_on_images(xmodal, arrays, shapes_images, tmp_path):
    assert xmodal(*CAPTIONER, "--data", arrays, *CPU, "--out", tmp_path / "c").code == 0
    refused = xmodal("eval", tmp_path / "c", "--data", shapes_images, *CPU)
    assert refused.code == 1 and "precomputed features" in refused.err
