"""Rows of an array with one row per caption are grouped by comparing whole rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.data import row_groups
from xmodal_cli.data.row_groups import group_rows


def groups_of(folder: Path, images: np.ndarray, images_of_rows: list[int]) -> list[list[int]]:
    """The images of the rows of each group."""
    np.save(folder / "train.npy", images[images_of_rows])
    return [[images_of_rows[row] for row in group] for group in group_rows(folder / "train.npy")]


def random_images(count: int, dim: int = 200) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)


def repeat(count: int, times: int) -> list[int]:
    return [image for image in range(count) for _ in range(times)]


@pytest.mark.parametrize("columns", [slice(0, 64), slice(1, None), slice(0, 199)])
def test_equal_columns_do_not_join_images(tmp_path: Path, columns: slice) -> None:
    images = random_images(8)
    images[:, columns] = 0
    assert groups_of(tmp_path, images, repeat(8, 5)) == [[n] * 5 for n in range(8)]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_twins_are_separated_by_the_number_of_captions(tmp_path: Path, dtype: type) -> None:
    images = random_images(8).astype(dtype)
    images[3] = images[4] = images[5] = images[2]
    images[7] = images[0]  # not adjacent
    assert groups_of(tmp_path, images, repeat(8, 5)) == [[n] * 5 for n in range(8)]


def test_captions_of_an_image_need_not_be_adjacent(tmp_path: Path) -> None:
    assert groups_of(tmp_path, random_images(4), [0, 1, 2, 3] * 3) == [[n] * 3 for n in range(4)]


def test_unequal_numbers_of_captions(tmp_path: Path) -> None:
    images_of_rows = [0, 0, 1, 2, 2, 2, 3, 3, 3, 3]
    assert groups_of(tmp_path, random_images(4), images_of_rows) == [[0] * 2, [1], [2] * 3, [3] * 4]


def test_one_caption_per_image(tmp_path: Path) -> None:
    assert groups_of(tmp_path, random_images(5, 3), repeat(5, 1)) == [[n] for n in range(5)]


def test_rows_with_equal_hashes_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_hash_rows", lambda words: np.zeros(len(words), np.uint64))
    assert groups_of(tmp_path, random_images(6), repeat(6, 2)) == [[n] * 2 for n in range(6)]


def test_a_changed_file_is_grouped_again(tmp_path: Path) -> None:
    assert len(groups_of(tmp_path, random_images(3), repeat(3, 2))) == 3
    assert len(groups_of(tmp_path, random_images(4), repeat(4, 2))) == 4
