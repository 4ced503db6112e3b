"""The conversion of half precision against that of numpy."""

from __future__ import annotations

import numpy as np

from xmodal_cli.retrieval.half_precision import half_to_float32


def test_half_precision_is_converted_exactly() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    halves = bits.view(np.float16)
    finite = np.isfinite(halves)
    assert np.array_equal(half_to_float32(halves[finite]), halves[finite].astype(np.float32))
    assert half_to_float32(np.zeros((3, 0), np.float16)).shape == (3, 0)
    assert half_to_float32(halves[:6].reshape(2, 3)).shape == (2, 3)
