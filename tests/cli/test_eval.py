"""``xmodal eval``: models and embeddings files, alone and side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from xmodal_cli.evaluation.embeddings import is_embeddings, read_embeddings
from xmodal_cli.inference import models
from xmodal_cli.models.model_file import read_header, read_tensors, write_model

METRICS = ["R@1", "R@5", "R@10", "median_rank", "mean_rank"]
KEYS = ["model", "data", "split", "images", "captions", "protocol", "image_to_text", "text_to_image", "rsum"]


@pytest.fixture
def arrays():
    """Three images and four captions, one of which is closer to a wrong image."""
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[2, 0, 0], [0, 1, 0.5], [0, 0.1, 3], [1, 0, 0.9]], np.float32)
    return {"images": images, "texts": texts, "image_of_caption": np.array([0, 1, 2, 2])}


def save(file, arrays, similarity=None):
    if file.suffix == ".npz":
        np.savez(file, **arrays, **({} if similarity is None else {"similarity": np.array(similarity)}))
    else:
        save_file(arrays, file, None if similarity is None else {"similarity": similarity})
    return file


def test_the_json_of_a_model(xmodal, trained, planted):
    done = xmodal("eval", trained, "--data", planted, "--split", "test", "--device", "cpu", "--json")
    assert done.code == 0, done.err
    result = done.json
    assert list(result) == KEYS
    assert list(result["image_to_text"]) == list(result["text_to_image"]) == METRICS
    head = (result["model"], result["data"], result["split"], result["images"], result["captions"], result["protocol"])
    assert head == ("toy-run", str(planted), "test", 45, 135, "45")
    recalls = [result[side][f"R@{k}"] for side in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    assert result["rsum"] == pytest.approx(sum(recalls))
    assert result["rsum"] > 300


def test_the_header_of_a_model_is_read_once(xmodal, trained, planted, monkeypatch):
    read, files = models.read_header, []
    monkeypatch.setattr(models, "read_header", lambda file: files.append(file) or read(file))
    assert xmodal("eval", trained, "--data", planted, "--split", "test", "--json").code == 0
    assert [file.parent.name for file in files] == [trained.name]


def test_val_metrics_equal_those_of_training(xmodal, trained, planted):
    result = xmodal("eval", trained, "--data", planted, "--split", "val", "--precision", "fp32", "--json").json
    metrics = json.loads((trained / "metrics.json").read_text(encoding="utf-8"))["best"]
    assert result["rsum"] == metrics["rsum"]
    assert result["text_to_image"]["mean_rank"] == metrics["text_to_image mean_rank"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_an_embeddings_file_needs_no_data(xmodal, tmp_path, arrays, suffix):
    file = save(tmp_path / f"vectors{suffix}", arrays)
    result = xmodal("eval", file, "--json").json
    assert list(result) == KEYS
    assert (result["model"], result["data"], result["split"]) == (f"vectors{suffix}", None, None)
    assert (result["images"], result["captions"]) == (3, 4)
    # by hand: images rank 1, 1, 1; captions rank 1, 1, 1 and, the last, 2
    assert result["image_to_text"] == dict(zip(METRICS, [100, 100, 100, 1, 1], strict=True))
    assert result["text_to_image"] == dict(zip(METRICS, [75, 100, 100, 1, 1.25], strict=True))
    assert result["rsum"] == 575


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_file_names_its_similarity(tmp_path, arrays, suffix):
    plain = read_embeddings(save(tmp_path / f"a{suffix}", arrays))
    assert plain.similarity == "cosine"
    np.testing.assert_allclose(np.linalg.norm(plain.texts, axis=1), 1, rtol=1e-6)
    order = read_embeddings(save(tmp_path / f"b{suffix}", arrays, "order"))
    assert order.similarity == "order"
    np.testing.assert_array_equal(order.texts, arrays["texts"])  # not normalized: order similarity depends on the norm
    assert is_embeddings(str(tmp_path / f"a{suffix}"))


def test_the_embeddings_of_a_model_have_the_metrics_of_the_model(xmodal, trained, planted, tmp_path):
    file = tmp_path / "vectors.npz"
    done = xmodal("features", planted, "--model", trained, "--split", "test", "--out", file, "--precision", "fp32")
    assert done.code == 0, done.err
    results = xmodal("eval", trained, file, "--data", planted, "--precision", "fp32", "--json").json
    assert [r["model"] for r in results] == ["toy-run", "vectors.npz"]
    assert results[0]["image_to_text"] == results[1]["image_to_text"]
    assert results[0]["text_to_image"] == results[1]["text_to_image"]


def test_several_results_in_one_table(xmodal, tmp_path, arrays):
    first = save(tmp_path / "first.npz", arrays)
    second = save(tmp_path / "second.safetensors", {**arrays, "texts": arrays["texts"][::-1].copy()})
    results = xmodal("eval", first, second, first, "--json").json
    assert [r["model"] for r in results] == ["first.npz", "second.safetensors", "first.npz"]
    assert results[0]["rsum"] == results[2]["rsum"] > results[1]["rsum"]
    table = xmodal("eval", first, second, first).out
    assert "3 images, 4 captions" in table
    rows = [line.split() for line in table.splitlines() if line.split() and line.split()[-1][-2:] in (".0", ".3")]
    assert [row[0] for row in rows] == ["first.npz", "second.safetensors", "first.npz"]
    assert rows[0][-1] == "575.0"
    assert rows[2][1] == "(2)"
    for name in ("i2t R@1", "i2t MedR", "t2i R@10", "t2i MeanR", "rsum"):
        assert name in table


def test_an_ensemble_of_models_and_the_ensemble_of_their_vectors(xmodal, trained, planted, tmp_path):
    file = tmp_path / "vectors.npz"
    xmodal("features", planted, "--model", trained, "--split", "test", "--out", file, "--precision", "fp32")
    common = ("--data", planted, "--precision", "fp32", "--ensemble", "--json")
    results = xmodal("eval", trained, trained, *common).json
    assert [r["model"] for r in results] == ["toy-run", "toy-run", "toy-run + toy-run"]
    assert results[0]["text_to_image"] == results[2]["text_to_image"]  # twice the same is the same
    assert results[2]["text_to_image"] == xmodal("eval", trained, file, *common).json[2]["text_to_image"]


def test_the_average_of_a_model_and_itself_is_that_model(xmodal, trained, planted, home):
    soup = home / "models" / "soup.safetensors"
    done = xmodal("models", "average", trained, trained, "--out", soup)
    assert done.code == 0, done.err
    results = xmodal("eval", trained, "soup", "--data", planted, "--precision", "fp32", "--json").json
    assert [r["model"] for r in results] == ["toy-run", "soup"]
    assert results[0]["rsum"] == results[1]["rsum"]
    assert xmodal("models", "info", "soup", "--json").json["training"]["average_of"][0]["name"] == "toy-run"


def test_folds(xmodal, trained, planted):
    whole = xmodal("eval", trained, "--data", planted, "--json").json
    folded = xmodal("eval", trained, "--data", planted, "--folds", 5, "--json").json
    assert folded["protocol"] == "5 folds of 9"
    assert folded["rsum"] > whole["rsum"]  # fewer negatives
    done = xmodal("eval", trained, "--data", planted, "--folds", 46)
    assert done.code == 1
    assert "45 images cannot be split into 46 folds" in done.err


def test_a_model_without_data(xmodal, trained):
    done = xmodal("eval", trained)
    assert done.code == 1
    assert "needs a dataset" in done.err


def test_a_model_of_another_backbone(xmodal, trained, planted, tmp_path):
    header = read_header(trained / "model.safetensors")
    for backbone in ("vgg19", "resnet101"):
        file = tmp_path / f"of-{backbone}.safetensors"
        meta = asdict(replace(header.meta, backbone=backbone, fingerprint="f" * 64, dim=20))
        write_model(file, replace(header, backbone=meta), read_tensors(trained / "model.safetensors"))
        done = xmodal("eval", file, "--data", planted)
        assert (done.code, done.out) == (1, "")
        assert f"of-{backbone} reads features of {backbone}, toy has precomputed" in done.err
        assert "hint: " in done.err


def test_a_model_of_precomputed_features_on_images(xmodal, trained, tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "images" / "a.png")
    line = json.dumps({"image": "images/a.png", "captions": ["a dog"], "split": "test"})
    (folder / "data.jsonl").write_text(line + "\n", encoding="utf-8")
    done = xmodal("eval", trained, "--data", folder / "data.jsonl")
    assert done.code == 1
    assert "precomputed features" in done.err


def test_a_truncated_model(xmodal, trained, planted, tmp_path):
    content = (trained / "model.safetensors").read_bytes()
    for size in (5, 300, len(content) - 1):
        file = tmp_path / f"cut-{size}.safetensors"
        file.write_bytes(content[:size])
        for command in (["eval", file, "--data", planted], ["models", "info", file]):
            done = xmodal(*command)
            assert (done.code, done.out) == (1, "")
            assert f"{file} is truncated or not a safetensors file" in done.err
            assert done.err.splitlines()[-1].startswith("hint: ")


def test_a_truncated_model_does_not_hide_the_others(xmodal, trained, home):
    for name, size in (("whole", None), ("cut", 300)):
        folder = home / "runs" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes()[:size])
    entries = {entry["name"]: entry for entry in xmodal("models", "list", "--json").json}
    assert entries["whole"]["kind"] == "matcher"
    assert entries["cut"]["kind"] == "unreadable"
    assert "truncated" in entries["cut"]["error"]
    assert "whole" in xmodal("models", "list").out


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("vse-f8k", "there is no model called 'vse-f8k'"),
        ("vectors.npz", "file not found: vectors.npz"),
        ("some/where.safetensors", "file not found: some/where.safetensors"),
    ],
)
def test_missing_models_and_files(xmodal, planted, what, message):
    done = xmodal("eval", what, "--data", planted)
    assert (done.code, done.out) == (1, "")
    assert message in done.err


def damaged():
    whole = {"images": np.eye(3), "texts": np.eye(3), "image_of_caption": np.arange(3)}
    yield "no zip", b"I am a text file", "cannot be read as embeddings"
    yield "empty", b"", "cannot be read as embeddings"
    yield "cut zip", b"PK\x03\x04", "cannot be read as embeddings"
    yield "an array", whole["images"], "cannot be read as embeddings"
    yield "lacks texts", {k: whole[k] for k in ("images", "image_of_caption")}, "cannot be read as embeddings"
    yield "words", {**whole, "texts": np.array(["a", "b", "c"])}, "cannot be read as embeddings"
    yield "objects", {**whole, "texts": np.array([{}, {}, {}])}, "cannot be read as embeddings"
    yield "other lengths", {**whole, "texts": np.eye(4)}, "do not have the same dimension"
    yield "invalid image_of_caption", {**whole, "image_of_caption": np.arange(1, 4)}, "image_of_caption"
    yield "not finite", {**whole, "texts": np.full((3, 3), np.nan)}, "not finite"
    yield "a similarity unknown", {**whole, "similarity": np.array("euclid")}, "has an unknown similarity 'euclid'"


@pytest.mark.parametrize(("content", "message"), [pytest.param(c, s, id=name) for name, c, s in damaged()])
def test_damaged_embeddings(xmodal, tmp_path, content, message):
    file = tmp_path / "vectors.npz"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, np.ndarray):
        with open(file, "wb") as opened:
            np.save(opened, content)
    else:
        np.savez(file, **content, allow_pickle=True)
    done = xmodal("eval", file)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert "bug" not in done.err


def test_embeddings_of_another_split(xmodal, tmp_path, arrays, planted):
    done = xmodal("eval", save(tmp_path / "vectors.npz", arrays), "--data", planted)
    assert done.code == 1
    assert "has 3 images, but test of" in done.err
    assert "has 45" in done.err
