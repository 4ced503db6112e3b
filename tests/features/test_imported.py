"""From files of regions to the feature store that train and eval read, by the recipe and by the command."""

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
from xmodal_cli.features import imported
from xmodal_cli.features.cache import features_for
from xmodal_cli.inference.encoding import backbone_of, settings_for
from xmodal_cli.recipes.features import extract_features
from xmodal_cli.reporter import SilentReporter
from xmodal_cli.types import Example, FeatureMeta


class Loud(SilentReporter):
    def __init__(self):
        self.warnings, self.said = [], []

    def warn(self, message):
        self.warnings.append(message)

    def info(self, message):
        self.said.append(message)


@pytest.fixture
def files(tmp_path, region_files):
    folder = tmp_path / "regions"
    folder.mkdir()
    WRITERS["bottom-up"][1](folder, region_files)
    return folder


def settings(path, kind="regions", crops=1):
    return FeaturesConfig(f"bottom-up@{path}", kind, crops)


def read_images(monkeypatch):
    """The names that are read of sources from now on."""
    read, kept = [], RegionSource.read
    monkeypatch.setattr(RegionSource, "read", lambda self, name: (read.append(name), kept(self, name))[1])
    return read


@pytest.mark.parametrize("writer", WRITERS)
def test_regions_stand_in_the_store_in_the_datasets_order(region_dataset, tmp_path, region_files, writer):
    folder = tmp_path / "regions"
    folder.mkdir()
    format, write, scored, _ = WRITERS[writer]
    write(folder, dict(reversed(region_files.items())))
    found = features_for(region_dataset, settings(folder))
    assert (
        found.ids == region_dataset.ids and found.values.dtype == np.float16 and found.values.shape == (4, 36, DIM + 7)
    )
    meta = found.meta
    assert (meta.backbone, meta.kind, meta.dim) == ("bottom-up", "regions", DIM + 7)
    assert meta.preprocessing["format"] == format and meta.fingerprint == open_regions(folder).fingerprint
    for image_id, rows in zip(found.ids, found.values, strict=True):
        regions = region_files[image_id]
        order = np.argsort(-regions.scores) if scored else np.arange(len(regions.scores))
        count = min(36, len(order))
        np.testing.assert_array_equal(rows[:count, :DIM], regions.features[order[:36]].astype(np.float16))
        np.testing.assert_allclose(rows[:count, DIM : DIM + 4], regions.shares[order[:36]], atol=1e-3)
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
    values = features_for(region_dataset, settings(files)).values
    np.testing.assert_array_equal(values[2, :2, :DIM], regions.features.astype(np.float16))


def test_what_was_imported_is_found_by_the_bare_name_even_without_its_files(region_dataset, files, tmp_path):
    with pytest.raises(MissingData, match="no regions were imported for test of tiny"):
        features_for(region_dataset, FeaturesConfig("bottom-up", "regions"))
    given = features_for(region_dataset, settings(files))
    files.rename(tmp_path / "elsewhere")
    bare = features_for(region_dataset, FeaturesConfig("bottom-up", "regions"))
    np.testing.assert_array_equal(bare.values, given.values)
    assert bare.meta == given.meta
    with pytest.raises(MissingData, match="there are no regions at"):
        features_for(region_dataset, settings(files))


def test_images_that_the_files_lack_or_hold_damaged_are_left_out_and_listed(region_dataset, tmp_path, region_files):
    file = tmp_path / "r.tsv"
    good = [bottom_up_line(n, region_files[n]) for n in ("pic3", "pic1")]
    wide = replace(region_files["pic0"], features=np.ones((2, DIM + 1), np.float32))
    nan = replace(region_files["pic2"], features=np.full((4, DIM), np.nan, np.float32))
    file.write_text(good[0] + bottom_up_line("pic2", nan) + bottom_up_line("pic0", wide) + good[1], newline="")
    reporter = Loud()
    whole = replace(region_dataset, examples=tuple(replace(e, split="all") for e in region_dataset.examples))
    found = features_for(whole, settings(file), reporter=reporter)
    assert found.ids == ("pic1", "pic3")
    told = extract_features(whole, settings(file)).skipped
    assert {s.image_id for s in told} == {"pic0", "pic2"}
    assert any("r.tsv line 2: its features are not all finite" in s.error for s in told)
    assert any(f"has {DIM + 1} features, others have {DIM}" in s.error for s in told)
    assert len(reporter.warnings) == 1 and "2 of 4 pictures" in reporter.warnings[0]
    file.write_text(good[0], newline="")
    assert (
        "has no regions of pic1.png"
        in extract_features(region_dataset.select("train"), settings(file)).skipped[0].error
    )
    with pytest.raises(BadData, match=r"none of the 2 pictures could be read, for example: .*has no regions of pic0"):
        features_for(region_dataset.select("test"), settings(file))


def test_no_picture_need_be_there_unless_its_size_is_needed(region_dataset, files, tmp_path, region_files):
    for example in region_dataset.examples:
        example.path.unlink()
    assert features_for(region_dataset, settings(files)).ids == region_dataset.ids
    apart = tmp_path / "apart"
    apart.mkdir()
    WRITERS["npz and npy in folders"][1](apart, region_files)
    with pytest.raises(BadData, match="boxes are in pixels of a picture of unknown size"):
        features_for(region_dataset, settings(apart))
    for example in region_dataset.examples:
        Image.new("RGB", (WIDTH // 4, HEIGHT // 4)).save(example.path)
    with pytest.raises(BadData, match="beyond its picture of 50 x 25"):  # the picture is not the one of the boxes
        features_for(region_dataset, settings(apart))


def test_two_pictures_never_share_an_entry(region_dataset, tmp_path, region_files):
    file = tmp_path / "r.tsv"
    file.write_text(bottom_up_line("pic0", region_files["pic0"]), newline="")
    (tmp_path / "other").mkdir()
    twin = Example("other/pic0.png", tmp_path / "other" / "pic0.png", (), "test")
    twins = replace(region_dataset, examples=(*region_dataset.examples, twin))
    with pytest.raises(BadData, match="one entry 'pic0' for two pictures"):
        features_for(twins, settings(file))


def test_a_killed_import_goes_on_with_the_first_missing_shard(region_dataset, files, monkeypatch):
    from xmodal_cli.features import filling

    monkeypatch.setitem(filling.SHARD_ROWS, "regions", 1)
    kept = RegionSource.read

    def stop(self, name):
        if name == "pic3":
            raise KeyboardInterrupt
        return kept(self, name)

    monkeypatch.setattr(RegionSource, "width", lambda self: DIM)
    monkeypatch.setattr(RegionSource, "read", stop)
    with pytest.raises(KeyboardInterrupt):
        extract_features(region_dataset, settings(files))
    monkeypatch.setattr(RegionSource, "read", kept)
    read = read_images(monkeypatch)
    assert features_for(region_dataset, settings(files)).ids == region_dataset.ids
    assert read == ["pic3"]


def test_a_large_source_is_searched_once_for_all_splits_and_said(region_dataset, files, monkeypatch):
    from xmodal_cli.data.regions import bottom_up_tsv

    monkeypatch.setattr(imported, "_LARGE", 10)
    searched, kept = [], bottom_up_tsv.index_lines
    monkeypatch.setattr(bottom_up_tsv, "index_lines", lambda file: (searched.append(file.name), kept(file))[1])
    os.utime(files / "a.tsv", ns=(1, 1))  # not in the memory of other tests
    reporter = Loud()
    features_for(region_dataset, settings(files), reporter=reporter)
    assert sorted(searched) == ["a.tsv", "a.tsv.1"]
    assert len(reporter.said) == 2 and "bottom-up-tsv" in reporter.said[0]


def test_kinds_and_crops_that_make_no_sense(region_dataset, files):
    check_request(f"bottom-up@{files}", "regions")
    with pytest.raises(ConfigError, match="bottom-up has regions features, not grid") as caught:
        features_for(region_dataset, settings(files, "grid"))
    assert "--kind regions" in caught.value.hint
    with pytest.raises(ConfigError, match="several crops"):
        features_for(region_dataset, settings(files, crops=10))
    with pytest.raises(ConfigError, match="resnet50 has global and grid features, not regions") as caught:
        check_request("resnet50", "regions")
    assert "faster-rcnn" in caught.value.hint and "bottom-up@PATH" in caught.value.hint


def test_a_model_reads_from_the_files_its_training_named_while_they_are_there(files):
    meta = FeatureMeta("bottom-up", "f" * 64, "regions", DIM + 7)

    def reads(training, meta=meta):
        header = SimpleNamespace(training=training)
        return settings_for(SimpleNamespace(meta=meta, summary=SimpleNamespace(header=header)))

    assert reads({"features": {"backbone": f"bottom-up@{files}"}}) == FeaturesConfig(f"bottom-up@{files}", "regions")
    for training in ({"features": {"backbone": f"bottom-up@{files}/gone"}}, {}, {"features": {"backbone": "vgg19"}}):
        assert reads(training) == FeaturesConfig("bottom-up", "regions")
    assert reads({}, FeatureMeta("vgg19", "", "global", 4096, {}, 10)) == FeaturesConfig("vgg19", "global", 10)


def test_new_pictures_cannot_be_embedded(files):
    meta = FeatureMeta("bottom-up", "f" * 64, "regions", DIM + 7)
    with pytest.raises(IncompatibleFeatures, match="tern-tiny was trained on regions that a detector elsewhere made"):
        backbone_of("tern-tiny", meta)
    with pytest.raises(IncompatibleFeatures, match="made elsewhere"):
        build_backbone("bottom-up", "regions")


def test_the_command_on_shapes(xmodal, tmp_path, region_files):
    shapes = tmp_path / "shapes"
    make_shapes(shapes, num_train=3, num_val=1, num_test=1)
    regions = tmp_path / "npz"
    regions.mkdir()
    listed = [json.loads(line) for line in (shapes / "shapes.jsonl").read_text().splitlines()]
    stems = [Path(entry["image"]).stem for entry in listed]
    for n, stem in enumerate(stems[:-1]):
        np.savez(regions / f"{stem}.npz", x=region_files["pic1"].features + n, bbox=region_files["pic1"].shares)
    backbone = f"bottom-up@{regions}"
    ran = xmodal("features", shapes, "--backbone", backbone, "--kind", "regions", "--out", tmp_path / "o", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["images"], ran.json["extracted"], len(ran.json["skipped"])) == (4, 5, 1)
    assert ran.json["kind"] == "regions" and ran.json["shape"] == [36, DIM + 7]
    again = xmodal("features", shapes, "--backbone", backbone, "--kind", "regions", "--out", tmp_path / "o")
    assert again.code == 0 and "4 images, 36 x 12 numbers each, by bottom-up (0 extracted" in again.out
    assert "has no regions of" in again.out
    for wrong, word in (
        ("bottom-up@nowhere", "no regions at"),
        ("resnet50", "features, not regions"),
        ("bottom-up", "import"),
    ):
        refused = xmodal("features", shapes, "--backbone", wrong, "--kind", "regions")
        assert refused.code == 1 and word in refused.err and "hint:" in refused.err
    refused = xmodal("features", shapes, "--backbone", backbone)
    assert refused.code == 1 and "--kind regions" in refused.err


def test_rows_of_a_store_are_those_of_the_format(region_dataset, files, region_files):
    found = features_for(region_dataset, settings(files))
    direct = region_rows(open_regions(files).read("pic3"), 36)
    np.testing.assert_array_equal(found.values[3], direct.astype(np.float16))
