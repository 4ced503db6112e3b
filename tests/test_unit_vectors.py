"""L2 normalization of one vector, of rows, and of what cannot be normalized."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.unit_vectors import unit_vectors


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_vector_has_norm_1_and_keeps_its_direction(shape: tuple[int, ...], dtype: type) -> None:
    vectors = np.random.default_rng(0).normal(size=shape).astype(dtype) * 30
    found = unit_vectors(vectors)
    assert found.shape == shape and found.dtype == dtype
    for one, unit in zip(vectors.reshape(-1, 7), found.reshape(-1, 7), strict=True):
        np.testing.assert_allclose(unit, one / np.sqrt(sum(float(x) ** 2 for x in one)), rtol=1e-5)


def test_the_type_may_be_widened() -> None:
    assert unit_vectors(np.ones((2, 3), np.float16), np.float64).dtype == np.float64


def test_zero_stays_zero() -> None:
    np.testing.assert_array_equal(unit_vectors(np.array([[0.0, 0.0], [3.0, 4.0]])), [[0, 0], [0.6, 0.8]])
