"""The mask of padded sequences against a loop."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli.length_mask import length_mask


@pytest.mark.parametrize("longest", [0, 1, 3, 6])
def test_positions_before_the_length_are_true(longest: int) -> None:
    lengths = [3, 0, 1, 5]
    mask = length_mask(torch.tensor(lengths), longest)
    assert mask.dtype == torch.bool and mask.shape == (4, longest)
    assert mask.tolist() == [[position < length for position in range(longest)] for length in lengths]


def test_the_mask_is_on_the_device_of_the_lengths() -> None:
    assert length_mask(torch.zeros(2, dtype=torch.int64, device="meta"), 3).device.type == "meta"
