"""Features of a split: in memory, or on disk where they are larger than the bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData
from xmodal_cli.features import cache
from xmodal_cli.features.image_features import read_image_features
from xmodal_cli.features.mapped_rows import MappedRows
from xmodal_cli.features.shards import map_shard
from xmodal_cli.reporter import SilentReporter

SMALL, LARGE = 24e-9, 1.0  # GB: four rows of three float16 values; more than all


class Messages(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def read(dataset, mean_color, monkeypatch):
    """The features of the dataset for a bound, and the messages."""
    monkeypatch.setattr(cache, "build_backbone", lambda *_: mean_color())
    monkeypatch.setattr(cache, "known_facts", lambda _: {})

    def read(memory):
        reporter = Messages()
        settings = replace(FeaturesConfig(backbone="mean-color"), memory=memory)
        return read_image_features(dataset, settings, Compute("cpu", "fp32"), reporter), reporter.lines

    monkeypatch.setattr(cache, "check_request", lambda *_: None)
    return read


def test_features_on_disk_are_those_in_memory(read):
    (in_memory, _), (on_disk, lines) = read(LARGE), read(SMALL)
    assert isinstance(in_memory.features, torch.Tensor) and isinstance(on_disk.features, MappedRows)
    assert on_disk.dataset.ids == in_memory.dataset.ids
    assert torch.equal(on_disk.features[:], in_memory.features)
    assert torch.equal(torch.cat(list(on_disk.batches(3))), in_memory.features)
    rows = [5, 0, 2]
    assert torch.equal(next(on_disk.batches(3, rows)), in_memory.features[rows])
    assert [line for line in lines if "features.memory" in line and "windows of 4 images" in line]


def test_the_store_of_each_split_is_looked_up_once(read, dataset, monkeypatch):
    """Otherwise all files are listed twice, and unreadable images are reported twice."""
    calls, original = [], cache.ensure_store
    monkeypatch.setattr(cache, "ensure_store", lambda *args: calls.append(args) or original(*args))
    for bound in (LARGE, SMALL):
        read(bound)
        assert len(calls) == len(dataset.splits)
        calls.clear()


def test_a_damaged_shard_on_disk_is_refused(read):
    on_disk, _ = read(SMALL)
    shard = on_disk.features.shards[0]
    assert isinstance(shard, np.memmap)
    file, offset = shard.filename, shard.offset
    del on_disk, shard
    with open(file, "r+b") as stream:
        stream.seek(offset)
        value = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([value[0] ^ 1]))
    map_shard(file)  # its size and header are right
    with pytest.raises(BadData, match="checksum"):
        read(SMALL)
