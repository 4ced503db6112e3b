"""Import of region files into the feature store, by the recipe and by the command."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.small_regions import DIM, HEIGHT, WIDTH, WRITERS, bottom_up_line
from PIL import Image

from xmodal_cli.backbones.image_backbones import build_backbone, check_request
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.region_reading import RegionSource, open_regions
from xmodal_cli.data.region_records import region_rows
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures, MissingData
from xmodal_cli.features import region_import
from xmodal_cli.features.cache import load_features
from xmodal_cli.inference.encoding import settings_for
from xmodal_cli.inference.torch_backbones import backbone_of
from xmodal_cli.recipes.features import extract_features
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.types import Example, FeatureMeta


class RecordingReporter(SilentReporter):
    def __init__(self):
        self.warnings, self.messages = [], []

    def warn(self, message):
        self.warnings.append(message)

    def info(self, message):
        self.messages.append(message)


@pytest.fixture
def files(tmp_path, region_files):
    folder = tmp_path / "regions"
    folder.mkdir()
    WRITERS["bottom-up"][1](folder, region_files)
    return folder


def settings(path, kind="regions", crops=1):
    return FeaturesConfig(f"bottom-up@{path}", kind, crops)


def read_images(monkeypatch):
    """A list of the entry names that are read from now on."""
    read, read_entry = [], RegionSource.read
    monkeypatch.setattr(RegionSource, "read", lambda self, name: (read.append(name), read_entry(self, name))[1])
    return read


@pytest.mark.parametrize("writer", WRITERS)
def test_regions_are_stored_in_the_order_of_the_dataset(region_dataset, tmp_path, region_files, writer):
    folder = tmp_path / "regions"
    folder.mkdir()
    format, write, scored, _ = WRITERS[writer]
    write(folder, dict(reversed(region_files.items())))
    features = load_features(region_dataset, settings(folder))
    assert (
        features.ids == region_dataset.ids
        and features.values.dtype == np.float16
        and features.values.shape == (4, 36, DIM + 7)
    )
    meta = features.meta
    assert (meta.backbone, meta.kind, meta.dim) == ("bottom-up", "regions", DIM + 7)
    assert meta.preprocessing["format"] == format and meta.fingerprint == open_regions(folder).fingerprint
    for image_id, rows in zip(features.ids, features.values, strict=True):
        regions = region_files[image_id]
        order = np.argsort(-regions.scores) if scored else np.arange(len(regions.scores))
        count = min(36, len(order))
        np.testing.assert_array_equal(rows[:count, :DIM], regions.features[order[:36]].astype(np.float16))
        np.testing.assert_allclose(rows[:count, DIM : DIM + 4], regions.fractions[order[:36]], atol=1e-3)
        assert (rows[:count, DIM + 4] > 0).all() and not rows[count:].any()


def test_a_second_run_reads_nothing_and_a_changed_source_is_read_again(
    region_dataset, files, region_files, monkeypatch
):
    first = extract_features(region_dataset, settings(files))
    assert first.extracted == 4 and first.backbone == "bottom-up" and first.shape == [36, DIM + 7]
    read = read_images(monkeypatch)
    again = extract_features(region_dataset, settings(files))
    assert again.extracted == 0 and not read and again.fingerprint == first.fingerprint
    regions = replace(region_files["pic0"], features=region_files["pic0"].features + 1)
    (files / "a.tsv.1").write_text("".join(bottom_up_line(n, regions) for n in ("pic2", "pic3")), newline="")
    changed = extract_features(region_dataset, settings(files))
    assert changed.extracted == 4 and changed.fingerprint != first.fingerprint
    values = load_features(region_dataset, settings(files)).values
    np.testing.assert_array_equal(values[2, :2, :DIM], regions.features.astype(np.float16))


def test_the_name_without_a_path_uses_imported_regions_without_their_files(region_dataset, files, tmp_path):
    with pytest.raises(MissingData, match="no regions were imported for test of tiny"):
        load_features(region_dataset, FeaturesConfig("bottom-up", "regions"))
    with_path = load_features(region_dataset, settings(files))
    files.rename(tmp_path / "moved")
    without_path = load_features(region_dataset, FeaturesConfig("bottom-up", "regions"))
    np.testing.assert_array_equal(without_path.values, with_path.values)
    assert without_path.meta == with_path.meta
    with pytest.raises(MissingData, match="there are no regions at"):
        load_features(region_dataset, settings(files))


def test_images_without_valid_regions_are_skipped_and_listed(region_dataset, tmp_path, region_files):
    file = tmp_path / "r.tsv"
    good = [bottom_up_line(n, region_files[n]) for n in ("pic3", "pic1")]
    wide = replace(region_files["pic0"], features=np.ones((2, DIM + 1), np.float32))
    nan = replace(region_files["pic2"], features=np.full((4, DIM), np.nan, np.float32))
    file.write_text(good[0] + bottom_up_line("pic2", nan) + bottom_up_line("pic0", wide) + good[1], newline="")
    reporter = RecordingReporter()
    one_split = replace(region_dataset, examples=tuple(replace(e, split="all") for e in region_dataset.examples))
    features = load_features(one_split, settings(file), reporter=reporter)
    assert features.ids == ("pic1", "pic3")
    skipped = extract_features(one_split, settings(file)).skipped
    assert {s.image_id for s in skipped} == {"pic0", "pic2"}
    assert any("r.tsv line 2: its features are not all finite" in s.error for s in skipped)
    assert any(f"has {DIM + 1} features, others have {DIM}" in s.error for s in skipped)
    assert len(reporter.warnings) == 1 and "2 of 4 images" in reporter.warnings[0]
    file.write_text(good[0], newline="")
    assert (
        "has no regions of pic1.png"
        in extract_features(region_dataset.select("train"), settings(file)).skipped[0].error
    )
    with pytest.raises(BadData, match=r"none of the 2 images is readable, for example: .*has no regions of pic0"):
        load_features(region_dataset.select("test"), settings(file))


def test_image_files_are_only_needed_for_their_size(region_dataset, files, tmp_path, region_files):
    for example in region_dataset.examples:
        example.path.unlink()
    assert load_features(region_dataset, settings(files)).ids == region_dataset.ids
    folder = tmp_path / "arrays"
    folder.mkdir()
    WRITERS["npz and npy in folders"][1](folder, region_files)
    with pytest.raises(BadData, match="boxes are in pixels of an image of unknown size"):
        load_features(region_dataset, settings(folder))
    for example in region_dataset.examples:
        Image.new("RGB", (WIDTH // 4, HEIGHT // 4)).save(example.path)
    with pytest.raises(BadData, match="outside its image of 50 x 25"):  # the boxes belong to another image
        load_features(region_dataset, settings(folder))


def test_one_entry_for_two_images_is_an_error(region_dataset, tmp_path, region_files):
    file = tmp_path / "r.tsv"
    file.write_text(bottom_up_line("pic0", region_files["pic0"]), newline="")
    (tmp_path / "other").mkdir()
    duplicate = Example("other/pic0.png", tmp_path / "other" / "pic0.png", (), "test")
    with_duplicate = replace(region_dataset, examples=(*region_dataset.examples, duplicate))
    with pytest.raises(BadData, match="one entry 'pic0' for two images"):
        load_features(with_duplicate, settings(file))


def test_an_interrupted_import_resumes_with_the_first_missing_shard(region_dataset, files, monkeypatch):
    from xmodal_cli.features import store_writer

    monkeypatch.setitem(store_writer.SHARD_ROWS, "regions", 1)
    read_entry = RegionSource.read

    def stop(self, name):
        if name == "pic3":
            raise KeyboardInterrupt
        return read_entry(self, name)

    monkeypatch.setattr(RegionSource, "width", lambda self: DIM)
    monkeypatch.setattr(RegionSource, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        extract_features(region_dataset, settings(files))
    monkeypatch.setattr(RegionSource, "read", read_entry)
    read = read_images(monkeypatch)
    assert load_features(region_dataset, settings(files)).ids == region_dataset.ids
    assert read == ["pic3"]


def test_a_large_source_is_indexed_once_for_all_splits_and_logged(region_dataset, files, monkeypatch):
    from xmodal_cli.data.regions import bottom_up_tsv

    monkeypatch.setattr(region_import, "_LARGE", 10)
    indexed, index_lines = [], bottom_up_tsv.index_lines
    monkeypatch.setattr(bottom_up_tsv, "index_lines", lambda file: (indexed.append(file.name), index_lines(file))[1])
    os.utime(files / "a.tsv", ns=(1, 1))  # not cached by other tests
    reporter = RecordingReporter()
    load_features(region_dataset, settings(files), reporter=reporter)
    assert sorted(indexed) == ["a.tsv", "a.tsv.1"]
    assert len(reporter.messages) == 2 and "bottom-up-tsv" in reporter.messages[0]


def test_invalid_kinds_and_crops_are_errors(region_dataset, files):
    check_request(f"bottom-up@{files}", "regions")
    with pytest.raises(ConfigError, match="bottom-up has regions features, not grid") as error:
        load_features(region_dataset, settings(files, "grid"))
    assert "--kind regions" in error.value.hint
    with pytest.raises(ConfigError, match="several crops"):
        load_features(region_dataset, settings(files, crops=10))
    with pytest.raises(ConfigError, match="resnet50 has global and grid features, not regions") as error:
        check_request("resnet50", "regions")
    assert "faster-rcnn" in error.value.hint and "bottom-up@PATH" in error.value.hint


def test_a_model_reads_the_region_files_of_its_training_while_they_exist(files):
    meta = FeatureMeta("bottom-up", "f" * 64, "regions", DIM + 7)

    def features_of(training, meta=meta):
        header = SimpleNamespace(training=training)
        return settings_for(SimpleNamespace(meta=meta, header=header))

    assert features_of({"features": {"backbone": f"bottom-up@{files}"}}) == FeaturesConfig(
        f"bottom-up@{files}", "regions"
    )
    for training in ({"features": {"backbone": f"bottom-up@{files}/gone"}}, {}, {"features": {"backbone": "vgg19"}}):
        assert features_of(training) == FeaturesConfig("bottom-up", "regions")
    assert features_of({}, FeatureMeta("vgg19", "", "global", 4096, {}, 10)) == FeaturesConfig("vgg19", "global", 10)


def test_new_images_cannot_be_embedded(files):
    meta = FeatureMeta("bottom-up", "f" * 64, "regions", DIM + 7)
    with pytest.raises(IncompatibleFeatures, match="tern-tiny was trained on regions of an external detector"):
        backbone_of("tern-tiny", meta)
    with pytest.raises(IncompatibleFeatures, match="bottom-up regions"):
        build_backbone("bottom-up", "regions")


def test_the_command_on_shapes(xmodal, tmp_path, region_files):
    shapes = tmp_path / "shapes"
    make_shapes(shapes, num_train=3, num_val=1, num_test=1)
    regions = tmp_path / "npz"
    regions.mkdir()
    entries = [json.loads(line) for line in (shapes / "shapes.jsonl").read_text().splitlines()]
    stems = [Path(entry["image"]).stem for entry in entries]
    for n, stem in enumerate(stems[:-1]):
        np.savez(regions / f"{stem}.npz", x=region_files["pic1"].features + n, bbox=region_files["pic1"].fractions)
    backbone = f"bottom-up@{regions}"
    result = xmodal("features", shapes, "--backbone", backbone, "--kind", "regions", "--out", tmp_path / "o", "--json")
    assert result.code == 0, result.err
    assert (result.json["images"], result.json["extracted"], len(result.json["skipped"])) == (4, 5, 1)
    assert result.json["kind"] == "regions" and result.json["shape"] == [36, DIM + 7]
    again = xmodal("features", shapes, "--backbone", backbone, "--kind", "regions", "--out", tmp_path / "o")
    assert again.code == 0 and "4 images" in again.out and "bottom-up (0 extracted" in again.out
    assert "has no regions of" in again.out
    for name, message in (
        ("bottom-up@nowhere", "no regions at"),
        ("resnet50", "features, not regions"),
        ("bottom-up", "import"),
    ):
        failed = xmodal("features", shapes, "--backbone", name, "--kind", "regions")
        assert failed.code == 1 and message in failed.err and "hint:" in failed.err
    failed = xmodal("features", shapes, "--backbone", backbone)
    assert failed.code == 1 and "--kind regions" in failed.err


def test_stored_rows_equal_the_rows_of_the_format(region_dataset, files, region_files):
    features = load_features(region_dataset, settings(files))
    rows = region_rows(open_regions(files).read("pic3"), 36)
    np.testing.assert_array_equal(features.values[3], rows.astype(np.float16))
