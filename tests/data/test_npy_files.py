"""``.npy`` files are memory-mapped; damaged files and other arrays are errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.data.npy_files import map_array, map_features
from xmodal_cli.errors import BadData


def saved(file: Path, array: np.ndarray) -> Path:
    np.save(file, array, allow_pickle=True)
    return file


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 4)])
def test_features_are_a_read_only_memory_map(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    mapped = map_features(saved(tmp_path / "a.npy", array))
    assert isinstance(mapped, np.memmap) and not mapped.flags.writeable
    np.testing.assert_array_equal(mapped, array)


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x93NUMPY\x01\x00\x0a\x00(((((((((("])
def test_missing_and_damaged_files_are_errors(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.npy"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError):
        map_array(file)
    with pytest.raises(BadData, match=r"a\.npy cannot be read as features: "):
        map_features(file)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.npy", np.array([{}, None], dtype=object))
    with pytest.raises(ValueError):
        map_array(file)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros((2, 3), np.int64),
        np.zeros((1, 2, 3, 4)),
        np.zeros((3, 0)),
        np.zeros((3, 0, 4)),
    ],
)
def test_arrays_of_another_shape_or_type_are_not_features(tmp_path: Path, array: np.ndarray) -> None:
    file = saved(tmp_path / "a.npy", array)
    assert map_array(file).shape == array.shape
    with pytest.raises(
        BadData, match=rf"is an array of {array.dtype} {' x '.join(map(str, array.shape))}, not features"
    ):
        map_features(file)
