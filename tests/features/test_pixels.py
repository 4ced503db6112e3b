"""Pixels for training: equal to the backbone's input without augmentation; errors name unreadable files."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.data.augmentation import Augmentation
from xmodal_cli.data.images import open_image
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.unreadable_images import drop_unreadable_images
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.features.extraction import opener_for
from xmodal_cli.features.pixels import pixel_opener

OFF = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for n, size in enumerate([(50, 70), (64, 64), (900, 1200)]):
        noise = Image.fromarray(rng.integers(0, 256, (size[0] // 10 + 1, size[1] // 10 + 1, 3), dtype=np.uint8))
        noise.resize(size[::-1]).save(folder / f"{n}.jpg")
    return sorted(folder.iterdir())


@pytest.fixture
def backbone(tiny_clip):
    return build_backbone(tiny_clip("pixels")[0])


@pytest.mark.parametrize("augmentation", [None, OFF])
def test_without_augmentation_pixels_equal_the_input_of_the_backbone(files, backbone, augmentation):
    opener = pixel_opener(files, backbone, augmentation)
    for index, file in enumerate(files):
        pixels = opener(index, Random(0))
        assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
        assert torch.equal(pixels, backbone.preprocess(opener_for(backbone)(file))[0])


def test_augmentation_depends_only_on_the_generator(files, backbone):
    opener = pixel_opener(files, backbone, Augmentation(jitter=0.2))
    assert torch.equal(opener(0, Random(1)), opener(0, Random(1)))
    assert not torch.equal(opener(0, Random(1)), opener(0, Random(2)))
    assert opener(2, Random(1)).shape == (3, 32, 32)


def test_several_crops_are_an_error(files, backbone):
    backbone.meta = replace(backbone.meta, crops=10)
    with pytest.raises(ConfigError, match="one crop per image"):
        pixel_opener(files, backbone)


def test_unreadable_images(files, backbone):
    dataset = load_dataset(str(files[0].parent))
    assert drop_unreadable_images(dataset) == dataset
    content = files[2].read_bytes()
    files[2].write_bytes(content[: len(content) // 2])
    files[1].write_bytes(b"not an image")
    with pytest.raises(BadData, match=r"1\.jpg"):
        pixel_opener(files, backbone)(1, Random(0))
    with pytest.raises(BadData):
        open_image(files[2])
    readable = drop_unreadable_images(dataset)
    assert [e.path.name for e in readable.examples] == ["0.jpg"]
    files[0].unlink()
    with pytest.raises(BadData, match="no image"):
        drop_unreadable_images(dataset)
