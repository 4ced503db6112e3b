"""Fixtures: synthetic regions, and a dataset of their images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from helpers.small_regions import HEIGHT, WIDTH, Made, make_regions
from xmodal_cli.types import Example, ImageTextDataset


@pytest.fixture
def region_files() -> dict[str, Made]:
    """Image id -> regions: 2, 3, 4 and 40 per image."""
    return make_regions((2, 3, 4, 40))


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
