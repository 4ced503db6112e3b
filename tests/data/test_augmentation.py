"""Augmentation: boxes inside the picture, shares and shapes within their limits, every choice from the generator."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data.augmentation import Augmentation, augment, draw_box


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (400, 3), (80, 60), (500, 375)])
def test_boxes_lie_inside(size):
    random = Random(0)
    for _ in range(300):
        left, top, right, bottom = draw_box(size, Augmentation(scale=(0.01, 1.0)), random)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_shares_and_shapes_are_within_their_limits_and_fill_them():
    random, settings = Random(0), Augmentation(scale=(0.2, 0.5), ratio=(0.8, 1.25))
    boxes = np.array([draw_box((1000, 500), settings, random) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share, shape = width * height / 500_000, (width / 1000) / (height / 500)
    assert 0.198 < share.min() < 0.21 and 0.49 < share.max() < 0.502
    assert 0.79 < shape.min() < 0.82 and 1.22 < shape.max() < 1.26
    assert abs(np.median(np.log(shape))) < 0.02
    spare = 1000 - width
    assert abs((boxes[:, 0] / spare).mean() - 0.5) < 0.03  # anywhere


def test_a_view_is_a_part_mirrored_half_the_time(image):
    settings, pixels = Augmentation(), np.asarray(image)
    mirrored = 0
    for seed in range(60):
        left, top, right, bottom = draw_box(image.size, settings, Random(seed))
        part = pixels[top:bottom, left:right]
        view = np.asarray(augment(image, settings, Random(seed)))
        flipped = np.array_equal(view, part[:, ::-1])
        assert flipped or np.array_equal(view, part)
        mirrored += flipped
    assert 15 <= mirrored <= 45


def test_off_is_off_and_jitter_changes_colours_only(image):
    off = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    assert np.array_equal(np.asarray(augment(image, off, Random(0))), np.asarray(image))
    jittered = augment(image, Augmentation((1.0, 1.0), (1.0, 1.0), 0.0, 0.3), Random(0))
    assert jittered.size == image.size and not np.array_equal(np.asarray(jittered), np.asarray(image))
    difference = np.abs(np.asarray(jittered, np.float32) - np.asarray(image, np.float32))
    assert 0 < difference.mean() < 70


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.5, 0.4)}, {"scale": (0.0, 1.0)}, {"ratio": (2.0, 1.0)}, {"flip": 2.0}, {"jitter": -1.0}]
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
