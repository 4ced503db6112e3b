"""Checks features from files, and selects their precision: float16, unless that loses values or their variation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xmodal_cli.data.npy_files import map_features
from xmodal_cli.errors import BadData
from xmodal_cli.types import ImageTextDataset

_FLOAT16_MAX = float(np.finfo(np.float16).max)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_CHUNK_BYTES = 1 << 26
_NUM_SAMPLED = 20_000  # rows whose rounding errors are measured
_MAX_ERROR = 0.01  # largest rounding error of a column, relative to its standard deviation; 0.0003 is usual


def first_bad_row(rows: np.ndarray) -> tuple[int, str] | None:
    """The first of (rows, ...) with a value that is not a finite float32, and the reason; None if all are."""
    flat = rows.reshape(len(rows), -1)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(flat) <= _FLOAT32_MAX) if flat.dtype.itemsize > 4 else ~np.isfinite(flat)
    if not bad.any():
        return None
    row, column = (int(n[0]) for n in np.nonzero(bad))
    value = flat[row, column]
    if np.isnan(value):
        return row, "is not a number (NaN)"
    return row, "is infinite" if np.isinf(value) else "is too large for float32"


def check_rows(where: str, rows: np.ndarray, numbers: Sequence[int]) -> None:
    """Raise BadData with ``where``, a file, and the number of the first row that has a value that is not finite."""
    bad = first_bad_row(rows)
    if bad is not None:
        position, reason = bad
        hint = "correct the file that it was computed from, and write the array again"
        raise BadData(f"{where}, row {numbers[position]} (from 0) has a value that {reason}", hint)


def read_rows(file: Path, mapped: np.ndarray, numbers: list[int]) -> np.ndarray:
    """Rows of a memory map, in memory. Raises BadData for rows that do not exist or are not finite."""
    wrong = next((number for number in numbers if not 0 <= number < len(mapped)), None)
    if wrong is not None:
        raise BadData(f"{file} has {len(mapped)} rows and the dataset refers to row {wrong}", "give matching files")
    rows: np.ndarray = mapped[numbers]
    check_rows(str(file), rows, numbers)
    return rows


def bad_feature_files(dataset: ImageTextDataset) -> tuple[str, ...]:
    """A sentence for each feature file of a dataset with values that are not finite, or with rows of zeros only."""
    files = dict.fromkeys(example.feature.path for example in dataset.examples if example.feature is not None)
    return tuple(filter(None, (_bad_values(file, map_features(file)) for file in files)))


def _bad_values(file: Path, rows: np.ndarray) -> str:
    start, zeros = 0, list[int]()
    for part in _chunks(rows):
        bad = first_bad_row(part)
        if bad is not None:
            return f"{file}, row {start + bad[0]} (from 0) has a value that {bad[1]}"
        zeros += (start + np.flatnonzero(~part.reshape(len(part), -1).any(axis=1))).tolist()
        start += len(part)
    count = f"{len(zeros):,} of {len(rows):,} rows"
    return f"{file} has only zeros in {count}, the first is row {zeros[0]} (from 0)" if zeros else ""


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, min(len(rows), -(-rows.nbytes // _CHUNK_BYTES))))


def needs_float32(rows: np.ndarray) -> bool:
    """Whether finite (rows, ..., dim) features lose values, or a column its variation, when they become float16."""
    if rows.dtype == np.float16 or not rows.size:
        return False
    if any(float(np.abs(part).max()) > _FLOAT16_MAX for part in _chunks(rows)):
        return True
    flat = rows.reshape(-1, rows.shape[-1])
    flat = flat[:: max(1, len(flat) // _NUM_SAMPLED)]
    scale = flat.std(axis=0, dtype=np.float64)
    error = np.sqrt(np.square(flat - flat.astype(np.float16), dtype=np.float64).mean(axis=0))
    varies = flat.max(axis=0) > flat.min(axis=0)
    return bool((error > _MAX_ERROR * scale)[varies].any())


def to_precision(rows: np.ndarray) -> np.ndarray:
    """Finite features as float16, or as float32 where ``needs_float32``."""
    return rows.astype(np.float32 if needs_float32(rows) else np.float16)


def check_shape(file: Path, shape: Sequence[int], whose: str, expected: Sequence[int]) -> None:
    """Raise BadData unless the rows of ``file`` have the expected shape; ``whose`` names the rows that have it."""
    if tuple(shape) != tuple(expected):
        this, other = (" x ".join(map(str, sides)) for sides in (shape, expected))
        raise BadData(
            f"{file} has rows of {this} values, {whose} have {other}", "use features of the same network for all splits"
        )
