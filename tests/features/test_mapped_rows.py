"""Features on disk: the rows of the shards, in any order."""

from __future__ import annotations

import numpy as np
import torch

from xmodal_cli.features.mapped_rows import BLOCKS_PER_WINDOW, MappedRows, select_rows

SHARDS = [np.arange(12, dtype=np.float16).reshape(4, 3), np.arange(12, 21, dtype=np.float16).reshape(3, 3)]
ALL = np.concatenate(SHARDS)


def test_rows_are_those_of_the_shards_in_any_order():
    order = np.array([6, 0, 3, 4, 2])
    rows = MappedRows(SHARDS, order, 10)
    assert len(rows) == 5 and rows.shape == (5, 3) and rows.ndim == 2
    assert rows[torch.tensor([4, 0, 0])].tolist() == ALL[order][[4, 0, 0]].tolist()
    assert rows[1:4].tolist() == ALL[order][1:4].tolist()
    selected = select_rows(rows, torch.tensor([3, 1]))
    assert isinstance(selected, MappedRows)
    assert selected[:].tolist() == ALL[order][[3, 1]].tolist()


def test_shards_of_two_precisions_are_read_as_the_larger():
    rows = MappedRows([SHARDS[0], SHARDS[1].astype(np.float32)], np.arange(7), 10)
    assert rows[:2].dtype == torch.float32
    assert rows[:].tolist() == ALL.tolist()


def test_a_window_has_the_bytes_of_the_bound():
    rows = MappedRows([np.zeros((10_000, 4), np.float16)], np.arange(10_000), window_bytes=8 * 640)
    assert rows.window_rows == 640
    assert rows.blocks_per_window == BLOCKS_PER_WINDOW
    blocks = rows.block_of_image
    assert torch.bincount(blocks).unique().tolist() == [10]
    assert (blocks.diff() >= 0).all()
