"""Preprocessing of images, against Pillow and plain formulas."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image

from xmodal_cli.backbones.preprocessing import Preprocessing


def random_image(width=50, height=30):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_an_image_is_resized_without_cropping():
    pixels = Preprocessing(16).pixels(random_image())
    assert pixels.shape == (1, 3, 16, 16) and pixels.dtype == torch.uint8
    expected = np.asarray(random_image().resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), expected)


def test_ten_crops_are_corners_center_and_mirror_images():
    pixels = Preprocessing(224, crops=10).pixels(random_image())
    assert pixels.shape == (10, 3, 224, 224)
    resized = random_image().resize((256, 256), Image.Resampling.BICUBIC)
    for n, (x, y) in enumerate([(0, 0), (32, 0), (0, 32), (32, 32), (16, 16)]):
        crop = resized.crop((x, y, x + 224, y + 224))
        np.testing.assert_array_equal(pixels[n].permute(1, 2, 0).numpy(), np.asarray(crop))
        mirror = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        np.testing.assert_array_equal(pixels[n + 5].permute(1, 2, 0).numpy(), np.asarray(mirror))


def test_normalization_subtracts_the_mean_and_divides_by_the_std():
    preprocessing = Preprocessing(16, (0.1, 0.5, 0.9), (0.2, 0.25, 0.5))
    pixels = preprocessing.pixels(random_image())
    expected = (pixels.numpy() / 255 - np.reshape([0.1, 0.5, 0.9], (3, 1, 1))) / np.reshape([0.2, 0.25, 0.5], (3, 1, 1))
    np.testing.assert_allclose(preprocessing.normalize(pixels, torch.float32).numpy(), expected, atol=1e-5)


def test_json_preserves_the_record():
    facts = Preprocessing(16, crops=10).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["side"] == 18 and facts["size"] == 16
