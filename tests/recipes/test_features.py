"""Features of a dataset: order, cache, precomputed rows, embeddings of a matcher, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.icc_profiles import SWAPPED
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data import selection
from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.images import open_image
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures, StorageError, UnknownName
from xmodal_cli.features import cache
from xmodal_cli.features.cache import cache_folder, load_features
from xmodal_cli.features.store import open_features
from xmodal_cli.inference.encoding import image_vectors
from xmodal_cli.recipes import vectors
from xmodal_cli.recipes.features import extract_features
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.types import Example, FeatureRow, ImageTextDataset

READABLE = tuple(f"id{n}" for n in range(12) if n not in (3, 7))


class RecordingReporter(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def settings(tiny_backbone, kind="global", crops=1):
    return FeaturesConfig(tiny_backbone, kind, crops)


@pytest.mark.parametrize("kind", ["global", "grid"])
def test_features_are_in_the_order_of_the_dataset(dataset, tiny_backbone, kind):
    reporter = RecordingReporter()
    found = load_features(dataset, settings(tiny_backbone, kind), Compute("cpu", "fp32"), reporter)
    assert found.ids == READABLE and found.values.dtype == np.float16
    backbone = build_backbone(tiny_backbone, kind)
    assert found.meta.key() == backbone.meta.key()
    by_id = {e.image_id: e.path for e in dataset.examples}
    for image_id, value in zip(found.ids, found.values, strict=True):
        one = backbone.encode(backbone.preprocess(open_image(by_id[image_id])))[0].numpy()
        np.testing.assert_allclose(value.astype(np.float32), one, rtol=2e-3, atol=2e-3)
    assert len(reporter.warnings) == 2 and "03.png" in "".join(reporter.warnings)


def test_a_second_run_builds_no_backbone(dataset, tiny_backbone, monkeypatch):
    first = load_features(dataset, settings(tiny_backbone), Compute("cpu"))

    def refuse(*args):
        raise AssertionError("nothing is left to extract")

    monkeypatch.setattr(cache, "build_backbone", refuse)
    second = load_features(dataset, settings(tiny_backbone), Compute("cpu"))
    assert first.ids == second.ids and first.meta == second.meta
    np.testing.assert_array_equal(first.values, second.values)
    part = load_features(
        dataset.select("test"), settings(tiny_backbone), Compute("cpu")
    )  # a single split uses the same store
    assert part.ids == ("id0", "id6", "id9")


def test_a_complete_store_is_read_without_torch(dataset, tiny_backbone):
    load_features(dataset, settings(tiny_backbone), Compute("cpu"))
    code = f"""
import sys
from pathlib import Path
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.features.cache import load_features
from xmodal_cli.types import Example, ImageTextDataset
examples = tuple(Example(f"id{{n}}", Path({str(dataset.examples[0].path.parent)!r}) / f"{{n:02d}}.png", (),
                         "test" if n % 3 == 0 else "train") for n in range(12))
data = ImageTextDataset("tiny", "hand", Path({str(dataset.source)!r}), examples)
found = load_features(data, FeaturesConfig({tiny_backbone!r}))
print(len(found.ids), [m for m in ("torch", "timm", "PIL") if m in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == "10 []", ended.stderr


def test_touched_weights_are_hashed_again_and_nothing_is_extracted(dataset, tiny_backbone):
    train = dataset.select("train")
    assert extract_features(train, settings(tiny_backbone)).extracted == 8
    weights = build_backbone(tiny_backbone).weights_file
    weights.touch()
    assert extract_features(train, settings(tiny_backbone)).extracted == 0


def test_out_is_one_folder_for_all_splits(dataset, tiny_backbone, tmp_path):
    result = extract_features(dataset, settings(tiny_backbone), tmp_path / "out", Compute("cpu", "fp32"), batch_size=4)
    assert result.folders == [str(tmp_path / "out")]
    assert result.images == 10 and result.extracted == 12 and result.shape == [result.shape[0]]
    assert [entry.image_id for entry in result.skipped] == ["id3", "id7"]
    assert open_features(tmp_path / "out").ids == READABLE
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file"):
        extract_features(dataset, settings(tiny_backbone), tmp_path / "file")


def test_different_settings_have_different_stores(dataset, tiny_backbone):
    train = dataset.select("train")
    folders = [
        cache_folder(train, settings(tiny_backbone)),
        cache_folder(train, settings(tiny_backbone, "grid")),
        cache_folder(train, settings(tiny_backbone, crops=10)),
        cache_folder(dataset.select("test"), settings(tiny_backbone)),
        cache_folder(replace(train, examples=train.examples[1:]), settings(tiny_backbone)),
    ]
    assert len(set(folders)) == len(folders)
    assert folders[0].name.startswith("tiny-train-timm-test_resnet-global-")


def test_a_moved_dataset_is_an_error_before_weights_are_loaded(dataset, tiny_backbone, tmp_path):
    gone = tuple(replace(e, path=tmp_path / "missing" / e.path.name) for e in dataset.examples)
    with pytest.raises(BadData, match="none of the 4 images exists"):
        load_features(replace(dataset, examples=gone[::3]), FeaturesConfig("vgg19"))
    with pytest.raises(UnknownName):
        load_features(dataset, FeaturesConfig("vgg18"))


def test_precomputed_rows_in_the_datasets_order(tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    np.save(tmp_path / "ims.npy", values)
    rows = [4, 0, 2]
    examples = tuple(Example(f"i{r}", None, ("a", "b"), "train", FeatureRow(tmp_path / "ims.npy", r)) for r in rows)
    data = ImageTextDataset("vse", "vse", tmp_path, examples)
    found = load_features(data, FeaturesConfig())
    assert found.ids == ("i4", "i0", "i2") and found.meta.backbone == "precomputed" and found.meta.dim == 5
    np.testing.assert_array_equal(found.values, values[rows].astype(np.float16))
    far = replace(examples[0], feature=FeatureRow(tmp_path / "ims.npy", 6))
    with pytest.raises(BadData, match="row 6"):
        load_features(replace(data, examples=(far,)), FeaturesConfig())
    np.save(tmp_path / "ims.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadData, match="cannot be read as features"):
        load_features(data, FeaturesConfig())


def test_images_for_a_model_of_precomputed_features(dataset):
    with pytest.raises(IncompatibleFeatures, match="precomputed features"):
        load_features(dataset, FeaturesConfig("precomputed"))


@dataclass
class FakeMatcher:
    """A matcher whose image vector is the sum of the features, and whose text vector is the sentence length."""

    meta: object
    name: str = "fake"
    compute: Compute = Compute("cpu", "fp32")
    calls: list = field(default_factory=list)

    @property
    def info(self):
        header = SimpleNamespace(features_from=None)
        facts = {"name": self.name, "meta": self.meta, "header": header, "from_precomputed": False}
        return SimpleNamespace(similarity="order", embed_dim=2, **facts)

    def embed_features(self, values):
        self.calls.append(len(values))
        return np.stack([np.asarray(values, np.float32).sum(1)] * 2, axis=1)

    def embed_texts(self, sentences):
        return np.array([[len(s), 1] for s in sentences], dtype=np.float32)


def test_image_vectors(image_files, tiny_backbone):
    backbone = build_backbone(tiny_backbone)
    results = list(image_vectors(FakeMatcher(backbone.meta))(image_files))
    assert [path for path, _ in results] == image_files
    for number, (path, vector) in enumerate(results):
        if number in (3, 7):
            assert path.name in vector.reason
        else:
            one = backbone.encode(backbone.preprocess(open_image(path)))[0].sum().item()
            np.testing.assert_allclose(vector, [one, one], rtol=1e-4, atol=1e-3)


def test_a_backbone_with_other_weights(tiny_backbone):
    meta = build_backbone(tiny_backbone).meta
    with pytest.raises(IncompatibleFeatures, match="other weights"):
        image_vectors(FakeMatcher(replace(meta, fingerprint="0" * 64)))
    with pytest.raises(IncompatibleFeatures, match="precomputed features"):
        image_vectors(FakeMatcher(replace(meta, backbone="precomputed")))


@pytest.fixture
def fake(tiny_backbone, monkeypatch):
    matcher = FakeMatcher(build_backbone(tiny_backbone).meta)
    monkeypatch.setattr("xmodal_cli.inference.matchers.load_matcher", lambda *args: matcher)
    return matcher


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_dataset_vectors(dataset, fake, tmp_path, suffix):
    out = tmp_path / f"v{suffix}"
    result = vectors.dataset_vectors("fake", dataset, out)
    assert result == vectors.DatasetVectors(out, "fake", "tiny", images=10, captions=20, dim=2)
    if suffix == ".npz":
        with np.load(out, allow_pickle=False) as opened:
            arrays = dict(opened)
        assert str(arrays["similarity"]) == "order"
    else:
        arrays = load_file(out)
        with safe_open(out, "np") as opened:
            assert opened.metadata()["similarity"] == "order"
    np.testing.assert_array_equal(arrays["image_of_caption"], np.repeat(np.arange(10), 2))
    captions = [c for e in dataset.examples if e.image_id in READABLE for c in e.captions]
    np.testing.assert_array_equal(arrays["texts"][:, 0], [len(c) for c in captions])
    assert arrays["images"].shape == (10, 2)


def test_sentence_vectors(fake, tmp_path):
    text = tmp_path / "s.txt"
    text.write_text("a dog\n\n two cats \n", encoding="utf-8")
    result = vectors.sentence_vectors("fake", text, tmp_path / "folder")
    np.testing.assert_array_equal(load_file(result.file)["texts"][:, 0], [5, 8])
    with pytest.raises(ConfigError, match="csv"):
        vectors.sentence_vectors("fake", text, tmp_path / "x.csv")
    text.write_text("\n")
    with pytest.raises(BadData, match="no sentences"):
        vectors.sentence_vectors("fake", text)


def test_the_command(dataset, tiny_backbone, fake, xmodal, tmp_path, monkeypatch):
    monkeypatch.setattr(
        selection, "load_split", lambda data, split, format: dataset.select(split) if split else dataset
    )
    result = xmodal("features", "tiny", "--backbone", tiny_backbone, "--split", "test", "--device", "cpu", "--json")
    assert result.code == 0 and result.json["images"] == 3 and result.json["skipped"][0]["image_id"] == "id3"
    shown = xmodal("features", "tiny", "--backbone", tiny_backbone, "--split", "test", "--out", tmp_path / "o")
    assert "3 images" in shown.out and "03.png" in shown.out
    shown = xmodal("features", "tiny", "--model", "fake", "--out", tmp_path / "v.npz")
    assert shown.code == 0 and "10 images, 20 captions" in shown.out
    for arguments in (["tiny", "--text", "x"], ["--model", "m"], ["tiny", "--model", "m", "--backbone", tiny_backbone]):
        assert xmodal("features", *arguments).code == 2
    regions = xmodal("features", "tiny", "--kind", "regions")
    assert regions.code == 1 and "features, not regions" in regions.err and "hint:" in regions.err


@pytest.mark.realdata
def test_batches_and_bfloat16_on_photos(real_data):
    files = sorted((real_data / "photos").rglob("*.jpg"))[:6]
    backbone = build_backbone("efficientnet-lite2")
    pixels = torch.cat([backbone.preprocess(open_image(f)) for f in files])
    exact = backbone.encode(pixels)
    alone = torch.cat([backbone.encode(p[None]) for p in pixels[:2]])
    torch.testing.assert_close(alone, exact[:2], atol=1e-4, rtol=1e-3)  # independent of the other images of the batch
    backbone.to(Compute("cpu", "bf16"))
    assert torch.cosine_similarity(backbone.encode(pixels[:4]).float(), exact[:4]).min() > 0.99


# ---------------------------------------------------------------------------- versions of decoding, damaged images


def stored(report):
    return json.loads((Path(report.folders[0]) / "features.json").read_text())


def age(report):
    """Make a store one of a version that had no color profiles: without the keys that were added."""
    for folder in map(Path, report.folders):
        summary = json.loads((folder / "features.json").read_text())
        summary = {k: v for k, v in summary.items() if k not in ("decoding", "defects")}
        summary["skipped"] = [{k: s[k] for k in ("image_id", "path", "error")} for s in summary["skipped"]]
        (folder / "features.json").write_text(json.dumps(summary))
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "np") as opened:
                metadata = json.loads(opened.metadata()["xmodal"])
            metadata = {k: metadata[k] for k in ("plan", "ids")} | {"skipped": [s[:3] for s in metadata["skipped"]]}
            save_file(load_file(file), file, {"xmodal": json.dumps(metadata)})


def test_an_old_store_without_color_profiles_is_kept(dataset, tiny_backbone):
    train = dataset.select("train")
    first = extract_features(train, settings(tiny_backbone))
    age(first)
    again = extract_features(train, settings(tiny_backbone))
    assert (again.extracted, stored(again)["decoding"]) == (0, DECODING)
    assert again.skipped == [replace(s, category="damaged", may_change=False) for s in first.skipped]


def test_an_old_store_with_color_profiles_is_extracted_again(dataset, tiny_backbone):
    train = dataset.select("train")
    with Image.open(train.examples[0].path) as image:
        image.save(train.examples[0].path, icc_profile=SWAPPED)
    first = extract_features(train, settings(tiny_backbone))
    assert extract_features(train, settings(tiny_backbone)).extracted == 0
    age(first)
    again = extract_features(train, settings(tiny_backbone))
    assert (again.extracted, stored(again)["decoding"]) == (8, DECODING)


def test_truncated_images_are_counted_and_strict_leaves_them_out(dataset, tiny_backbone, monkeypatch):
    path = dataset.examples[1].path
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:-2000])
    train = dataset.select("train")
    reporter = RecordingReporter()
    report = extract_features(train, settings(tiny_backbone), reporter=reporter)
    assert (report.images, report.defects["counts"]) == (7, {"damaged": 1})
    assert "1 of 8 images are damaged and are used" in "".join(reporter.warnings)
    again = extract_features(train, settings(tiny_backbone))
    assert (again.extracted, again.defects) == (0, report.defects)  # listed each time
    monkeypatch.setenv("XMODAL_STRICT", "1")
    strict = extract_features(train, settings(tiny_backbone))
    assert (strict.images, strict.defects["total"]) == (6, 0)
    assert strict.left_out["counts"]["damaged"] == 1
    assert extract_features(train, settings(tiny_backbone)).extracted == 0
    monkeypatch.setenv("XMODAL_STRICT", "")
    assert extract_features(train, settings(tiny_backbone)).images == 7


def test_images_that_may_be_readable_now_are_tried_again(dataset, tiny_backbone, monkeypatch):
    path = dataset.examples[1].path
    Image.new("RGB", (1200, 1000)).save(path, "PNG")
    train = dataset.select("train")
    monkeypatch.setenv("XMODAL_MAX_MEGAPIXELS", "1")
    report = extract_features(train, settings(tiny_backbone))
    assert (report.images, report.left_out["counts"]["too_large"]) == (6, 1)
    assert extract_features(train, settings(tiny_backbone)).extracted == 0
    monkeypatch.setenv("XMODAL_MAX_MEGAPIXELS", "2")
    assert extract_features(train, settings(tiny_backbone)).images == 7
