"""The coarse quantizer against slow formulas."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.retrieval.cells import cell_offsets, num_cells, rows_in_cells, sorted_positions, train_cells


def _vectors(num: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((20, dim))[rng.integers(20, size=num)] + 0.5 * rng.standard_normal((num, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_nearly_all_vectors_are_in_the_cell_with_the_nearest_centroid() -> None:
    images = _vectors(5000)
    cells = train_cells(images, 5000)
    assert 0.9 * num_cells(5000) <= len(cells) <= 1.1 * num_cells(5000)
    found = cells.assign(images)
    best = (images @ cells.centroids.astype(np.float32).T).argmax(1)
    assert (found == best).mean() > 0.95
    assert np.array_equal(found, np.concatenate([cells.assign(images[:7]), cells.assign(images[7:])]))
    order = cells.order(images[0])
    assert order[0] == best[0]
    assert sorted(order) == list(range(len(cells)))


@pytest.mark.parametrize("num", [1, 2, 3, 40])
def test_few_or_equal_vectors_have_cells(num: int) -> None:
    for images in (_vectors(num), np.repeat(_vectors(1), num, axis=0)):
        cells = train_cells(images, num)
        assert 1 <= len(cells) <= num
        assert cells.assign(images).max() < len(cells)


def test_rows_of_cells_are_those_of_a_loop() -> None:
    cell_of = np.random.default_rng(0).integers(0, 9, 100)
    cell_of[cell_of == 4] = 5  # an empty cell
    offsets, positions = cell_offsets(cell_of, 9), sorted_positions(cell_of)
    assert sorted(positions) == list(range(100))
    for chosen in ([], [4], [0], [8], [1, 4, 7], list(range(9))):
        expected = sorted(positions[row] for row in range(100) if cell_of[row] in chosen)
        assert rows_in_cells(offsets, np.array(chosen, np.int64)).tolist() == expected
    for cell in range(9):  # in a cell, rows keep their order
        assert np.all(np.diff(positions[cell_of == cell]) > 0)


def test_groups_are_those_of_the_whole_sample() -> None:
    """The vectors of a sorted segment are in the order of their cells."""
    images = _vectors(20_000)
    images = images[np.argsort(images @ images[0])]
    largest = [
        train_cells(part, 20_000).group_sizes.max() for part in (images, np.random.default_rng(0).permutation(images))
    ]
    assert largest[0] < 1.15 * largest[1]
