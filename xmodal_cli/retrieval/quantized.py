"""``ID.int8``: int8 scalar quantization of the vectors, for a fast first pass over all of them.

A coordinate is ``offset + step * code``, with an offset and a step per coordinate and codes from -127 to 127. The error
of an inner product with the codes is bounded by Cauchy-Schwarz, from the largest quantization error of a vector, which
is stored in the file, and from the remainder of the query after quantization to two digits of 7 bits. Rescoring all
rows whose score is within twice that bound of the k-th best gives the exact top k.

Codes are stored in blocks (dim, ``ROWS``); onnxruntime multiplies them by the digits of a query in exact integer
arithmetic. Digits have 7 bits because 8 would overflow on CPUs without VNNI. The file is a safetensors file, written
block by block.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval.hints import rebuild_hint

if TYPE_CHECKING:
    from concurrent.futures import Executor


ROWS = 4096  # vectors per block
MIN_ELEMENTS = 2**20  # smaller matrices are scanned unquantized in less than a millisecond
MIN_PARALLEL = 8  # blocks; a second thread does not help for fewer
CODE, DIGIT = 127, 127  # the largest code and digit
ROUNDING = 1e-9  # above the float64 rounding error of an inner product of unit vectors
_TYPES = {"I8": np.int8, "I32": np.int32, "F32": np.float32}
# an ONNX model of one node, opset 17: y = MatMulInteger(a, b), uint8 (m, k) and int8 (k, n) -> int32 (m, n)
_PRODUCT = (
    b'\x08\x08:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03'
    b"\x12\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y\x12"
    b"\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)

TakeRows = Callable[[np.ndarray], np.ndarray]  # (rows,) int64 -> (rows, dim) float32


def is_worthwhile(shape: tuple[int, int]) -> bool:
    """Whether (count, dim) vectors have enough elements for quantization to speed up a search."""
    return shape[0] * shape[1] >= MIN_ELEMENTS


def write_quantized(target: Path, shape: tuple[int, int], take: TakeRows) -> None:
    """Write the codes of (count, dim) vectors, read twice through ``take``, block by block. Raises OSError."""
    count, dim = shape
    low, high = np.full(dim, np.inf, np.float32), np.full(dim, -np.inf, np.float32)
    for vectors in _blocks(count, take):
        low, high = np.minimum(low, vectors.min(0)), np.maximum(high, vectors.max(0))
    offset = (low + high) / 2
    step = np.maximum((high - low) / (2 * CODE), np.float32(1e-12))
    num_blocks = -(-count // ROWS)
    with open(target, "wb") as file:
        layout: dict[str, tuple[str, list[int]]] = {
            "offset": ("F32", [dim]),
            "step": ("F32", [dim]),
            "sums": ("I32", [num_blocks * ROWS]),
            "codes": ("I8", [num_blocks, dim, ROWS]),
        }
        file.write(_header(layout, _metadata(count, 0.0, 0.0)))
        file.write(offset.tobytes() + step.tobytes())
        sums_at = file.seek(0, os.SEEK_CUR)
        file.seek(4 * num_blocks * ROWS, os.SEEK_CUR)
        sums, max_error, max_code_norm = _write_codes(file, _blocks(count, take), offset, step)
        file.seek(sums_at)
        file.write(sums.tobytes())
        file.seek(0)
        file.write(_header(layout, _metadata(count, max_error, max_code_norm)))


def _write_codes(
    file: BinaryIO, blocks: Iterator[np.ndarray], offset: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Returns (rows,) int32 sums of the codes, the largest quantization error and the largest norm of codes."""
    sums, max_error, max_code_norm = [], 0.0, 0.0
    for vectors in blocks:
        codes = np.clip(np.rint((vectors - offset) / step), -CODE, CODE)
        exact_codes = codes.astype(np.float64)
        errors = vectors.astype(np.float64) - (offset.astype(np.float64) + step.astype(np.float64) * exact_codes)
        max_error = max(max_error, float(np.sqrt((errors**2).sum(1).max())))
        max_code_norm = max(max_code_norm, float(np.sqrt((exact_codes**2).sum(1).max())))
        padded = np.zeros((ROWS, len(step)), np.int8)
        padded[: len(codes)] = codes
        sums.append(padded.sum(1, dtype=np.int32))
        file.write(np.ascontiguousarray(padded.T).tobytes())
    return np.concatenate(sums), max_error, max_code_norm


def _blocks(count: int, take: TakeRows) -> Iterator[np.ndarray]:
    for start in range(0, count, ROWS):
        yield take(np.arange(start, min(start + ROWS, count)))


def _metadata(count: int, max_error: float, max_code_norm: float) -> dict[str, str]:
    """The metadata of the file, as strings whose length does not depend on the errors."""
    return {"count": str(count), "far": f"{max_error:.17e}", "long": f"{max_code_norm:.17e}"}


def _header(layout: dict[str, tuple[str, list[int]]], metadata: dict[str, str]) -> bytes:
    """The header of a safetensors file, padded to a multiple of 64 bytes."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, (kind, shape) in layout.items():
        size = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(entries).encode()
    text = text.ljust(-(-(len(text) + 8) // 64) * 64 - 8)
    return len(text).to_bytes(8, "little") + text


class QuantizedVectors:
    """A memory-mapped file of int8 vectors. Raises BadData if it is damaged or not of ``shape``, FileNotFoundError."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        count, dim = self.shape = shape
        num_blocks = -(-count // ROWS)
        expected = {"codes": (num_blocks, dim, ROWS), "sums": (num_blocks * ROWS,), "offset": (dim,), "step": (dim,)}
        try:
            arrays, metadata = _read(path)
            self._max_error, self._max_code_norm = float(metadata["far"]), float(metadata["long"])
            shapes = {name: array.shape for name, array in arrays.items()}
            is_valid = shapes == expected and int(metadata["count"]) == count
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadData(f"{path} is damaged: {error}", rebuild_hint(path.parents[1])) from error
        if not is_valid:
            raise BadData(f"{path} does not match the vectors", rebuild_hint(path.parents[1]))
        self._codes, self._sums = arrays["codes"], arrays["sums"]
        self._offset, self._step = (arrays[name].astype(np.float64) for name in ("offset", "step"))

    def scores(self, query: np.ndarray) -> tuple[np.ndarray, float]:
        """(dim,) float64 -> (count,) float64 inner products, and an upper bound of their errors."""
        scaled = query * self._step
        (first, unit, low), remainder = _digits(scaled)
        (second, small_unit, small_low), remainder = _digits(remainder)
        high_part, low_part = self._products(first, second)
        scores = float(query @ self._offset) + (low + small_low) * self._sums + unit * high_part + small_unit * low_part
        query_norm, remainder_norm = float(np.linalg.norm(query)), float(np.linalg.norm(remainder))
        bound = query_norm * self._max_error + remainder_norm * self._max_code_norm
        return scores[: self.shape[0]], bound + ROUNDING * max(1.0, query_norm)

    def _products(self, *digits: np.ndarray) -> list[np.ndarray]:
        """Per array of digits, (rows,) int32 products with all codes; large inputs are split over two threads."""
        products = [np.empty(len(self._codes) * ROWS, np.int32) for _ in digits]

        def multiply(blocks: Sequence[int]) -> None:
            for i in blocks:
                for digit, product in zip(digits, products, strict=True):  # the block stays in the CPU cache
                    (part,) = self._session.run(None, {"a": digit[None], "b": self._codes[i]})
                    product[i * ROWS : (i + 1) * ROWS] = part[0]

        blocks = range(len(self._codes))
        if len(blocks) < MIN_PARALLEL or (os.cpu_count() or 1) < 2:
            multiply(blocks)
        else:
            half = len(blocks) // 2
            second_half = self._executor.submit(multiply, blocks[half:])
            multiply(blocks[:half])
            second_half.result()
        return products

    @cached_property
    def _executor(self) -> Executor:
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(1)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])


def _digits(values: np.ndarray) -> tuple[tuple[np.ndarray, float, float], np.ndarray]:
    """(dim,) -> ((dim,) uint8 digits, unit, low), and the remainder ``values - (low + unit * digits)``."""
    low, high = float(values.min()), float(values.max())
    unit = max((high - low) / DIGIT, 1e-300)
    digits = np.clip(np.rint((values - low) / unit), 0, DIGIT)
    return (digits.astype(np.uint8), unit, low), values - (low + unit * digits)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The memory-mapped arrays and the metadata of a file. Raises OSError, ValueError, KeyError, TypeError."""
    content = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(content[:8].tobytes(), "little")
    if length > len(content):
        raise ValueError("it is truncated")
    header = json.loads(content[8 : 8 + length].tobytes())
    metadata: dict[str, str] = header.pop("__metadata__")
    arrays = {}
    for name, entry in header.items():
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        arrays[name] = content[start:stop].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays, metadata
