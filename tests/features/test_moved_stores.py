"""A dataset that was moved, renamed or copied keeps its features; one with other images of the same names does not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from xmodal_cli import paths
from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.device import Compute
from xmodal_cli.features import cache
from xmodal_cli.reporter import SILENT

SETTINGS = FeaturesConfig(backbone="mean-color")


@pytest.fixture
def encoded(mean_color, monkeypatch):
    """The sizes of the batches that the backbone encodes."""
    sizes = []

    def build(*_):
        backbone = mean_color()
        encode = backbone.encode
        backbone.encode = lambda pixels: (sizes.append(len(pixels)), encode(pixels))[1]
        return backbone

    monkeypatch.setattr(cache, "build_backbone", build)
    monkeypatch.setattr(cache, "known_facts", lambda _: {})
    monkeypatch.setattr(cache, "check_request", lambda *_: None)
    return sizes


def make_images(folder, first_color=0):
    folder.mkdir()
    for n in range(6):
        Image.new("RGB", (8, 8), (first_color + n, 0, 0)).save(folder / f"{n}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def load(folder):
    return cache.load_features(read_dataset(folder), SETTINGS, Compute("cpu", "fp32"), SILENT)


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_moved_and_renamed_dataset_keeps_its_features(tmp_path, encoded, is_copy):
    before = load(make_images(tmp_path / "before"))
    assert sum(encoded) == 6
    (tmp_path / "disk").mkdir()
    if is_copy:
        shutil.copytree(tmp_path / "before", tmp_path / "disk/after", copy_function=shutil.copyfile)
    else:
        (tmp_path / "before").rename(tmp_path / "disk/after")
    after = load(tmp_path / "disk/after")
    assert sum(encoded) == 6
    assert after.ids == before.ids
    np.testing.assert_array_equal(after.values, before.values)
    (store,) = (f for f in (paths.cache_dir() / "features").iterdir() if f.name.startswith("after-"))
    assert str(tmp_path / "disk/after/broken.png") in (store / "features.json").read_text(encoding="utf-8")
    if is_copy:
        assert load(tmp_path / "before").ids == before.ids
        assert sum(encoded) == 6


def test_other_images_of_the_same_names_have_their_own_features(tmp_path, encoded):
    first = load(make_images(tmp_path / "a"))
    second = load(make_images(tmp_path / "b", first_color=100))
    assert sum(encoded) == 12
    assert second.ids == first.ids
    assert (second.values[:, 0] > first.values[:, 0]).all()
    np.testing.assert_array_equal(load(tmp_path / "a").values, first.values)  # its linked shards are unchanged
    assert sum(encoded) == 12


def test_a_file_system_without_hard_links(tmp_path, encoded, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    before = load(make_images(tmp_path / "before"))
    (tmp_path / "before").rename(tmp_path / "after")
    assert load(tmp_path / "after").ids == before.ids
    assert sum(encoded) == 6
