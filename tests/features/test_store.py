"""Shards and the store: round trips, and errors for damaged files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.features.shards import ShardMetadata, map_shard, read_shard_metadata, shard_path, write_shard
from xmodal_cli.features.store import FeatureStore, StoreSummary, open_features, open_store, write_summary
from xmodal_cli.types import FeatureMeta

META = FeatureMeta("mean-color", "f" * 64, "global", 4, {"size": 8, "mean": [0.1, 0.2, 0.3]})


def make_store(folder, lengths, shape=(4,)):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(sum(lengths), *shape)).astype(np.float16)
    ids = [f"id{n}" for n in range(len(values))]
    start = 0
    for index, length in enumerate(lengths):
        part = slice(start, start + length)
        write_shard(shard_path(folder, index), list(values[part]), ShardMetadata("p", tuple(ids[part]), ()))
        start += length
    write_summary(folder, StoreSummary(META, tuple(ids), (), tuple(lengths)))
    return ids, values


@pytest.mark.parametrize("shape", [(4,), (5, 4)])
def test_a_shard_is_a_plain_safetensors_file(tmp_path, shape):
    rows = list(np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32))
    metadata = ShardMetadata("plan", ("a", "b", "ç"), (("d", "/x/d.jpg", "empty", "empty", False),))
    write_shard(tmp_path / "s.safetensors", rows, metadata)
    mapped = map_shard(tmp_path / "s.safetensors")
    np.testing.assert_array_equal(mapped, load_file(tmp_path / "s.safetensors")["values"])
    np.testing.assert_array_equal(mapped, np.stack(rows).astype(np.float16))
    assert isinstance(mapped, np.memmap) and mapped.dtype == np.float16
    stored = read_shard_metadata(tmp_path / "s.safetensors")
    assert stored == replace(metadata, values_sha256=hashlib.sha256(mapped.tobytes()).hexdigest())


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_truncated_shard_is_an_error(tmp_path, keep):
    file = tmp_path / "s.safetensors"
    write_shard(file, [np.ones(100)] * 3, ShardMetadata("plan", ("a", "b", "c"), ()))
    file.write_bytes(file.read_bytes()[:keep])
    for read in (map_shard, read_shard_metadata):
        with pytest.raises(BadData, match=r"s\.safetensors"):
            read(file)


def test_a_foreign_file_is_an_error(tmp_path):
    (tmp_path / "s.safetensors").write_text("a text of some length, which is not a tensor file at all")
    with pytest.raises(BadData):
        map_shard(tmp_path / "s.safetensors")


@pytest.mark.parametrize("lengths", [[7], [3, 0, 4], [2, 2, 2, 1]])
@pytest.mark.parametrize("shape", [(4,), (5, 4)])
def test_rows_and_load_return_the_requested_order(tmp_path, lengths, shape):
    ids, values = make_store(tmp_path, lengths, shape)
    store = open_store(tmp_path)
    assert store.meta == META and store.meta.key() == META.key()
    np.testing.assert_array_equal(store.load().values, values)
    positions = np.array([6, 0, 3, 3, 5])
    np.testing.assert_array_equal(store.rows(positions), values[positions])
    features = store.load([ids[n] for n in positions])
    np.testing.assert_array_equal(features.values, values[positions])
    assert features.ids == tuple(ids[n] for n in positions) and features.values.flags.writeable


def test_one_shard_is_a_memory_map_and_several_are_read_into_memory(tmp_path):
    _, values = make_store(tmp_path / "one", [7])
    assert isinstance(open_features(tmp_path / "one").values, np.memmap)
    make_store(tmp_path / "two", [3, 4])
    features = open_features(tmp_path / "two")
    assert not isinstance(features.values, np.memmap)
    np.testing.assert_array_equal(features.values, values)


def test_an_unknown_id_is_an_error(tmp_path):
    make_store(tmp_path, [3])
    with pytest.raises(BadData, match="unknown"):
        open_store(tmp_path).load(["id1", "unknown"])


def test_a_missing_and_a_damaged_summary_are_errors(tmp_path):
    with pytest.raises(MissingData, match="no complete features"):
        open_store(tmp_path)
    make_store(tmp_path, [3])
    summary = tmp_path / "features.json"
    for text in ("{", "[]", json.dumps({"format": 99}), summary.read_text().replace('"ids"', '"names"')):
        summary.write_text(text)
        with pytest.raises(BadData, match=r"features\.json"):
            open_store(tmp_path)


def test_shards_of_another_store_are_an_error(tmp_path):
    make_store(tmp_path, [3, 4])
    make_store(tmp_path / "other", [2])
    shard_path(tmp_path / "other", 0).replace(shard_path(tmp_path, 1))
    with pytest.raises(BadData, match=r"do not match features\.json"):
        open_store(tmp_path).load()


def test_a_missing_shard_is_an_error(tmp_path):
    make_store(tmp_path, [3, 4])
    shard_path(tmp_path, 1).unlink()
    store = open_store(tmp_path)
    assert isinstance(store, FeatureStore)
    with pytest.raises(BadData, match="features-00001"):
        store.load()
