"""Augmentation: crops are inside the image with areas and aspect ratios in range, and depend only on the generator."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data.augmentation import Augmentation, augment, sample_box


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (400, 3), (80, 60), (500, 375)])
def test_boxes_are_inside_the_image(size):
    random = Random(0)
    for _ in range(300):
        left, top, right, bottom = sample_box(size, Augmentation(scale=(0.01, 1.0)), random)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


def test_areas_and_ratios_cover_their_ranges():
    random, settings = Random(0), Augmentation(scale=(0.2, 0.5), ratio=(0.8, 1.25))
    boxes = np.array([sample_box((1000, 500), settings, random) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, ratio = width * height / 500_000, (width / 1000) / (height / 500)
    assert 0.198 < area.min() < 0.21 and 0.49 < area.max() < 0.502
    assert 0.79 < ratio.min() < 0.82 and 1.22 < ratio.max() < 1.26
    assert abs(np.median(np.log(ratio))) < 0.02
    max_left = 1000 - width
    assert abs((boxes[:, 0] / max_left).mean() - 0.5) < 0.03  # uniform


def test_a_view_is_a_crop_flipped_half_the_time(image):
    settings, pixels = Augmentation(), np.asarray(image)
    num_flipped = 0
    for seed in range(60):
        left, top, right, bottom = sample_box(image.size, settings, Random(seed))
        crop = pixels[top:bottom, left:right]
        view = np.asarray(augment(image, settings, Random(seed)))
        is_flipped = np.array_equal(view, crop[:, ::-1])
        assert is_flipped or np.array_equal(view, crop)
        num_flipped += is_flipped
    assert 15 <= num_flipped <= 45


def test_jitter_changes_colors_and_not_the_size(image):
    off = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    assert np.array_equal(np.asarray(augment(image, off, Random(0))), np.asarray(image))
    jittered = augment(image, Augmentation((1.0, 1.0), (1.0, 1.0), 0.0, 0.3), Random(0))
    assert jittered.size == image.size and not np.array_equal(np.asarray(jittered), np.asarray(image))
    difference = np.abs(np.asarray(jittered, np.float32) - np.asarray(image, np.float32))
    assert 0 < difference.mean() < 70


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.5, 0.4)}, {"scale": (0.0, 1.0)}, {"ratio": (2.0, 1.0)}, {"flip": 2.0}, {"jitter": -1.0}]
)
def test_invalid_settings_are_errors(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentation(**wrong)
