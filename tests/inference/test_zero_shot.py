"""``open_clip/...`` as MODEL in every command: vectors equal to open_clip, and cached headers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.inference.encoding import image_vectors
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.models import describe_model


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("shapes") / "set", num_train=2, num_val=2, num_test=12)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    return folder


def reference_images(network, files, normalize=True):
    """Image vectors computed with open_clip, of images resized to its input size."""
    images = [np.array(Image.open(f).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)) for f in files]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    facts = network.visual.preprocess_cfg
    mean, std = (torch.tensor(facts[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        return network.encode_image((pixels - mean) / std, normalize=normalize).numpy()


def reference_texts(network, sentences):
    from open_clip.tokenizer import SimpleTokenizer

    with torch.inference_mode():
        return network.encode_text(SimpleTokenizer()(sentences, context_length=16), normalize=True).numpy()


def test_vectors_equal_open_clip(tiny_clip, photos):
    name, network = tiny_clip("vectors")
    matcher = load_matcher(name, Compute("cpu", "fp32"))
    sentences = ["a dog", "two dogs run over a very long meadow in the last light of a summer day in June", "", "a dog"]
    np.testing.assert_allclose(matcher.embed_texts(sentences), reference_texts(network, sentences), atol=1e-5)
    files = sorted(photos.iterdir())
    vectors = dict(image_vectors(matcher)(files))
    np.testing.assert_allclose(np.stack([vectors[f] for f in files]), reference_images(network, files), atol=1e-5)
    raw = np.array([[3.0, 4.0] + [0.0] * 22], np.float16)
    np.testing.assert_allclose(matcher.embed_features(raw)[0, :2], [0.6, 0.8], atol=1e-6)
    assert (matcher.info.similarity, matcher.info.embed_dim, matcher.meta.kind) == ("cosine", 24, "global")


def test_eval_equals_the_metrics_of_open_clip_vectors(xmodal, tiny_clip, shapes):
    from xmodal_cli.data.registry import load_dataset
    from xmodal_cli.evaluation.scoring import Embeddings, score_embeddings

    name, network = tiny_clip("eval")
    result = xmodal("eval", name, "--data", shapes, "--precision", "fp32", "--device", "cpu", "--json").json
    part = load_dataset(str(shapes)).select("test")
    images = reference_images(network, [e.path for e in part.examples], normalize=False)
    images = images.astype(np.float16).astype(np.float32)  # as in the feature store
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    expected = score_embeddings(
        Embeddings(images, reference_texts(network, part.captions), part.image_of_caption, "cosine")
    )
    assert result["model"] == name and result["images"] == 12
    for side in ("image_to_text", "text_to_image"):
        assert result[side] == pytest.approx(expected.sides[side])


def test_index_then_search_from_another_folder(xmodal, tiny_clip, photos, tmp_path, monkeypatch):
    name, network = tiny_clip("search")
    base, _, weights = name.partition("@")
    monkeypatch.chdir(tmp_path)
    report = xmodal("index", photos, "--model", f"{base}@{Path(weights).name}", "--device", "cpu", "--json").json
    assert report["model"] == name and report["items"] == 4
    monkeypatch.chdir(photos)
    hits = xmodal("search", "a dog", "--json").json["hits"]
    files = sorted(photos.iterdir())
    scores = reference_images(network, files) @ reference_texts(network, ["a dog"])[0]
    assert [Path(h["path"]) for h in hits] == [files[n] for n in np.argsort(-scores)]
    np.testing.assert_allclose([h["score"] for h in hits], np.sort(scores)[::-1], atol=5e-3)  # indexed in bf16 maybe
    assert xmodal("index", photos, "--json").json["unchanged"] == 4
    Path(weights).unlink()
    failed = xmodal("search", "a dog")
    assert failed.code == 1 and "search" in failed.err and "hint:" in failed.err


def test_changed_weights_are_an_error(xmodal, tiny_clip, photos):
    from safetensors.torch import load_file, save_file

    name, _ = tiny_clip("changed")
    xmodal("index", photos, "--model", name, "--device", "cpu")
    file = Path(name.partition("@")[2])
    save_file({key: value * 2 for key, value in load_file(file).items()}, file)
    outcome = xmodal("search", "a dog")
    assert outcome.code == 1 and "another version" in outcome.err and "--rebuild" in outcome.err


def test_vectors_and_info(xmodal, tiny_clip, shapes, tmp_path, home):
    name, network = tiny_clip("info")
    facts = xmodal("models", "info", name, "--json").json
    assert facts["vocabulary"] == 49408 and facts["embed_dim"] == 24 and facts["backbone"] == name
    assert facts["path"] == name.partition("@")[2] and facts["similarity"] == "cosine"
    assert "vocabulary" in xmodal("models", "info", name).out
    text = tmp_path / "s.txt"
    text.write_text("a dog\na cat\n")
    result = xmodal("features", "--model", name, "--text", text, "--precision", "fp32", "--json").json
    assert Path(result["file"]).name == "open_clip-xmodal-tiny-info-xmodal-tiny-info-s.safetensors"
    out = tmp_path / "v.npz"
    result = xmodal(
        "features", shapes, "--model", name, "--split", "test", "--out", out, "--precision", "fp32", "--json"
    )
    assert result.json["images"] == 12
    expected = reference_texts(network, ["a dog", "a cat"])
    from safetensors.numpy import load_file

    vectors = load_file(home / "cache" / "vectors" / "open_clip-xmodal-tiny-info-xmodal-tiny-info-s.safetensors")
    np.testing.assert_allclose(vectors["texts"], expected, atol=1e-5)


def test_a_second_call_imports_neither_torch_nor_open_clip(tiny_clip):
    name, _ = tiny_clip("light")
    first = describe_model(name)
    code = (
        "import sys; from xmodal_cli.inference.models import describe_model as d;"
        f"s = d({name!r}); print(s.fingerprint); print([m for m in ('torch', 'open_clip', 'timm') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split("\n")[:2] == [first.fingerprint, "[]"]


def test_a_damaged_cache_file_is_written_again(tiny_clip, home):
    name, _ = tiny_clip("note")
    first = describe_model(name)
    (file,) = (home / "cache" / "open_clip").iterdir()
    for text in ("", "{}", "[]", json.dumps({"weights": {"path": "x"}, "header": {}})):
        file.write_text(text)
        assert describe_model(name) == first


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("open_clip/ViT-B-33/openai", "ViT-B-32"), ("open_clip/ViT-B-32/open", "openai"), ("open_clip/ViT-B-32", "tag")],
)
def test_misspelled_names_have_a_suggestion(xmodal, name, suggestion, photos):
    outcome = xmodal("index", photos, "--model", name)
    assert outcome.code == 1 and suggestion in outcome.err


def test_large_files_are_hashed_once(tmp_path, home, monkeypatch):
    from xmodal_cli.backbones import weights

    monkeypatch.setattr(weights, "MIN_CACHED_BYTES", 4)
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    first = weights.cached_fingerprint(file)
    assert first == weights.sha256_of(file)
    monkeypatch.setattr(weights, "sha256_of", lambda file: "0" * 64)
    assert weights.cached_fingerprint(file) == first
    (note,) = (home / "cache" / "fingerprints").iterdir()
    note.write_text("nonsense")
    assert weights.cached_fingerprint(file) == "0" * 64
    file.write_bytes(b"others!!")
    assert weights.cached_fingerprint(file) == "0" * 64
