"""Features from a user's files: values that are not finite, shapes that differ, and their precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import BadData
from xmodal_cli.features.cache import load_features
from xmodal_cli.features.precision import first_bad_row, needs_float32, to_precision
from xmodal_cli.features.shards import ShardMetadata, map_shard, write_shard
from xmodal_cli.types import Features

NORMAL = np.random.default_rng(0).normal(size=(50, 8))


def write_split(folder: Path, split: str, rows: np.ndarray) -> None:
    np.save(folder / f"{split}_ims.npy", rows)
    (folder / f"{split}_caps.txt").write_text("a dog\n" * 2 * len(rows))


def load(folder: Path, *splits: str) -> Features:
    return load_features(read_dataset(folder).select(*splits), FeaturesConfig())


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, r"not a number \(NaN\)"), (np.inf, "infinite"), (1e300, "too large for float32")]
)
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_values_that_are_not_finite_are_reported_with_file_and_row(
    xmodal, tmp_path: Path, value: float, reason: str, shape: tuple[int, ...]
) -> None:
    rows = np.ones(shape)
    rows[3].reshape(-1)[2] = value
    write_split(tmp_path, "train", np.ones(shape))
    write_split(tmp_path, "test", rows)
    load(tmp_path, "train")
    with pytest.raises(BadData, match=rf"test_ims\.npy, row 3 \(from 0\) has a value that is {reason}"):
        load(tmp_path, "test")
    facts = xmodal("data", "info", tmp_path, "--json").json
    assert len(facts["notes"]) == 1
    assert f"{tmp_path / 'test_ims.npy'}, row 3" in facts["notes"][0]


def test_rows_of_other_shapes_are_reported_with_the_file(tmp_path: Path) -> None:
    write_split(tmp_path, "train", np.ones((5, 8)))
    write_split(tmp_path, "dev", np.ones((5, 4)))
    assert load(tmp_path, "val").values.shape == (5, 4)
    with pytest.raises(BadData, match=r"dev_ims\.npy has rows of 4 values, those of .*train_ims\.npy have 8"):
        load(tmp_path, "train", "val")
    assert "dev_ims.npy has rows of 4 values" in read_dataset(tmp_path).notes[0]


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [
        (NORMAL, np.float16),
        (np.maximum(NORMAL, 0) * 30, np.float16),
        (NORMAL.astype(np.float16), np.float16),
        (NORMAL * 1e6, np.float32),  # overflow
        (NORMAL * 1e-7, np.float32),  # rounded to a few numbers
        (1000 + NORMAL * 0.1, np.float32),  # rounded to one number
        (np.column_stack([NORMAL, 1000 + NORMAL[:, 0] * 0.01]), np.float32),  # one such column
        (np.column_stack([NORMAL, np.zeros(50), np.full(50, 0.1)]), np.float16),  # constant columns
    ],
)
def test_precision(tmp_path: Path, rows: np.ndarray, dtype: type) -> None:
    write_split(tmp_path, "train", rows)
    values = load(tmp_path, "train").values
    assert values.dtype == dtype
    np.testing.assert_allclose(values, rows, rtol=1e-3, atol=1e-6)
    assert needs_float32(rows) == (dtype is np.float32)


def test_shards_have_the_precision_of_their_rows(tmp_path: Path) -> None:
    for n, rows in enumerate((NORMAL * 1e6, NORMAL)):
        kept = to_precision(rows)
        write_shard(tmp_path / f"{n}", list(kept), ShardMetadata("", ("a",), ()), kept.dtype.name)
        read = map_shard(tmp_path / f"{n}")
        assert read.dtype == kept.dtype
        np.testing.assert_array_equal(read, kept)
    assert first_bad_row(NORMAL) is None


def test_trained_and_evaluated_on_large_values(xmodal, tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write_split(tmp_path, split, np.random.default_rng(len(split)).normal(size=(8, 8)) * 1e6)
    settings = ["model.embed_dim=8", "training.epochs=1", "training.batch_size=8"]
    options = [part for setting in settings for part in ("--set", setting)]
    done = xmodal("train", "--model", "vse", "--data", tmp_path, "--out", tmp_path / "run", *options, "--json")
    assert done.code == 0, done.err
    write_split(tmp_path, "test", np.ones((8, 4)))
    done = xmodal("eval", tmp_path / "run", "--data", tmp_path, "--json")
    assert done.code == 1
    assert f"reads global features of 8 values, {tmp_path / 'test_ims.npy'} has global features of 4" in done.err


def test_features_json_records_the_precision(tmp_path: Path) -> None:
    from xmodal_cli.features.image_digests import ImageToExtract
    from xmodal_cli.features.store import FileStamp, open_store
    from xmodal_cli.features.store_writer import ExtractionPlan, fill_store
    from xmodal_cli.types import FeatureMeta

    images = tuple(ImageToExtract(f"{n}", FileStamp(f"/{n}.jpg", 1, 1)) for n in range(3))
    meta = FeatureMeta("bottom-up", "f", "regions", 8)
    for scale, dtype in ((1.0, "float16"), (1e6, "float32")):
        folder = tmp_path / dtype
        plan = ExtractionPlan(images, meta, FileStamp.of(Path()), keep_precision=True)
        rows = NORMAL[:3, None] * scale
        fill_store(folder, plan, lambda files, rows=rows: iter(zip(files, rows, strict=True)), lambda n: None)
        assert json.loads((folder / "features.json").read_text())["dtype"] == dtype
        store = open_store(folder)
        np.testing.assert_allclose(store.rows(np.array([2, 0])), rows[[2, 0]], rtol=1e-3)
        assert store.load().values.dtype == dtype


def test_rows_of_zeros_are_a_note_of_data_info(xmodal, tmp_path: Path) -> None:
    rows = NORMAL.copy()
    rows[[3, 9]] = 0
    write_split(tmp_path, "train", rows)
    write_split(tmp_path, "test", NORMAL)
    file = tmp_path / "train_ims.npy"
    note = f"{file} has only zeros in 2 of 50 rows, the first is row 3 (from 0)"
    assert xmodal("data", "info", tmp_path, "--json").json["notes"] == [note]
