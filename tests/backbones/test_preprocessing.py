"""Pictures to pixels, against Pillow and plain formulas."""

from __future__ import annotations

import json

import numpy as np
import torch
from PIL import Image

from xmodal_cli.backbones.preprocessing import Preprocessing


def picture(width=50, height=30):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_picture_is_squashed_whole():
    pixels = Preprocessing(16).pixels(picture())
    assert pixels.shape == (1, 3, 16, 16) and pixels.dtype == torch.uint8
    expected = np.asarray(picture().resize((16, 16), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), expected)


def test_ten_crops_are_corners_centre_and_mirrors():
    pixels = Preprocessing(224, crops=10).pixels(picture())
    assert pixels.shape == (10, 3, 224, 224)
    whole = picture().resize((256, 256), Image.Resampling.BICUBIC)
    for n, (x, y) in enumerate([(0, 0), (32, 0), (0, 32), (32, 32), (16, 16)]):
        crop = whole.crop((x, y, x + 224, y + 224))
        np.testing.assert_array_equal(pixels[n].permute(1, 2, 0).numpy(), np.asarray(crop))
        mirror = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        np.testing.assert_array_equal(pixels[n + 5].permute(1, 2, 0).numpy(), np.asarray(mirror))


def test_normalising_is_less_the_mean_by_the_deviation():
    preprocessing = Preprocessing(16, (0.1, 0.5, 0.9), (0.2, 0.25, 0.5))
    pixels = preprocessing.pixels(picture())
    slow = (pixels.numpy() / 255 - np.reshape([0.1, 0.5, 0.9], (3, 1, 1))) / np.reshape([0.2, 0.25, 0.5], (3, 1, 1))
    np.testing.assert_allclose(preprocessing.normalize(pixels, torch.float32).numpy(), slow, atol=1e-5)


def test_the_record_survives_json():
    facts = Preprocessing(16, crops=10).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["side"] == 18 and facts["size"] == 16
