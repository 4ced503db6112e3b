"""Boxes of regions on a photo."""

from __future__ import annotations

import numpy as np
from PIL import Image

from xmodal_cli.regions import REGION_COLUMNS, region_corners
from xmodal_cli.reports.attention_boxes import draw_boxes

BOXES = np.array([[0.0, 0.0, 0.5, 1.0], [0.4, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]], np.float32)


def draw(weights: list[float], boxes: np.ndarray = BOXES, size: tuple[int, int] = (200, 100)) -> np.ndarray:
    photo = Image.new("RGB", size, "white")
    return np.asarray(draw_boxes(photo, np.array(weights, np.float32), boxes)).astype(int).sum(-1)


def test_the_highest_weight_is_the_brightest_also_where_boxes_overlap() -> None:
    pixels = draw([0.75, 0.25, 0.0])
    left, both, right = (int(pixels[60, x]) for x in (40, 90, 150))
    assert left == both == 765
    assert 0.25 * 765 < right < 0.6 * 765
    assert right == int(pixels[90, 190])


def test_padding_is_not_drawn_even_with_the_highest_weight() -> None:
    np.testing.assert_array_equal(draw([0.3, 0.1, 0.6]), draw([0.3, 0.1, 0.0]))


def test_only_the_highest_weights_are_outlined() -> None:
    orange = 0xFF + 0x6E + 0x14
    boxes = np.array([[0.1, 0.1, 0.4, 0.8], [0.6, 0.1, 0.9, 0.8]], np.float32)
    both, one = draw([0.6, 0.4], boxes) == orange, draw([0.98, 0.02], boxes) == orange
    right = slice(round(0.6 * 199), round(0.9 * 199) + 1)
    assert both[:, right].any() and one.any()
    assert not one[:, right].any()
    five = np.array([[0.2 * n, 0.1, 0.19 + 0.2 * n, 0.9] for n in range(5)], np.float32)
    outlined = draw([0.1, 0.15, 0.2, 0.25, 0.3], five) == orange
    assert [bool(outlined[60, 40 * n : 40 * n + 38].any()) for n in range(5)] == [False, False, True, True, True]


def test_tiny_photos_and_boxes_on_the_edge() -> None:
    for size in ((1, 1), (200, 1), (1, 200)):
        assert draw([0.5, 0.5, 0.0], size=size).shape == size[::-1]
    assert draw([1.0], np.array([[0.999, 0.999, 1.0, 1.0]], np.float32)).shape == (100, 200)


def test_corners_of_region_features() -> None:
    rows = np.zeros((1, 2, 3 + len(REGION_COLUMNS)), np.float32)
    rows[0, :, 3:7] = [[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.9, 0.9]]
    rows[0, 0, 7] = 0.04  # area; the second row is padding
    np.testing.assert_allclose(region_corners(rows)[0], [[0.1, 0.2, 0.3, 0.4], [0, 0, 0, 0]], atol=1e-6)
