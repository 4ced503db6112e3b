"""Fixtures: synthetic regions, and a dataset of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.small_regions import DIM, HEIGHT, WIDTH, Made
from xmodal_cli.types import Example, ImageTextDataset


@pytest.fixture
def region_files() -> dict[str, Made]:
    """Image id -> regions: 2, 3, 4 and 40 per image."""
    rng = np.random.default_rng(0)
    regions = {}
    for index, count in enumerate((2, 3, 4, 40)):
        first = rng.uniform(0, 0.5, (count, 2)) * (WIDTH, HEIGHT)
        second = first + rng.uniform(0.05, 0.4, (count, 2)) * (WIDTH, HEIGHT)
        boxes = np.concatenate([first, second], axis=1).astype(np.float32)
        features = rng.normal(size=(count, DIM)).astype(np.float32)
        scores = rng.uniform(0.1, 1, count).astype(np.float32)
        regions[f"pic{index}"] = Made(features, boxes, scores, rng.integers(1, 1600, count))
    return regions


@pytest.fixture
def region_dataset(tmp_path: Path) -> ImageTextDataset:
    """pic0 to pic3, two in train and two in test."""
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        Image.new("RGB", (WIDTH, HEIGHT), (40 * index, 0, 0)).save(folder / f"pic{index}.png")
    examples = tuple(
        Example(f"pic{n}", folder / f"pic{n}.png", (f"caption {n}",), "train" if n % 2 else "test") for n in range(4)
    )
    return ImageTextDataset("tiny", "hand", tmp_path, examples)
