"""The conversion of half precision against that of numpy."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.retrieval.half_precision import half_inner_products, half_to_float32


def test_half_precision_is_converted_exactly() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits.view(np.float16)
    finite = np.isfinite(halves)
    assert np.array_equal(half_to_float32(halves[finite]), halves[finite].astype(np.float32))
    assert half_to_float32(np.zeros((3, 0), np.float16)).shape == (3, 0)
    assert half_to_float32(halves[:6].reshape(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(1, 1), (0, 8), (7, 33), (1000, 512)])
def test_inner_products_have_the_error_of_float32(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal(shape).astype(np.float16)
    direction = rng.standard_normal(shape[1]).astype(np.float32)
    exact = vectors.astype(np.float64) @ direction.astype(np.float64)
    np.testing.assert_allclose(half_inner_products(vectors, direction), exact, rtol=0, atol=1e-6 * shape[1])
