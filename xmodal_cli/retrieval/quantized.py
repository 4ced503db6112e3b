"""``index.coarse``: the vectors in 8 bits a number, scanned many times as fast as they are. Knows nothing of their use.

A coordinate is ``offset + step * code``, each coordinate with its own offset and step, codes from -127 to 127. An inner
product with the codes is wrong by at most a bound that is computed, not guessed: by Cauchy-Schwarz from the largest
distance between a vector and its codes, which the file keeps, and from what is left of the query after two digits of 7
bits. Whoever scores all rows within twice that bound of the k-th anew has lost nothing.

The codes of ``ROWS`` vectors stand coordinate by coordinate, and onnxruntime multiplies them with a query's digits in
whole numbers: exactly, by the processor's own instructions for it. Digits have 7 bits, since processors without the
newer instructions would overflow at 8. The file is a safetensors file, written block by block.
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

if TYPE_CHECKING:
    from concurrent.futures import Executor


ROWS = 4096  # vectors of a block
LEAST = 2**22  # numbers; fewer are scanned as they are in two milliseconds
SHARED = 8  # blocks; fewer are done before a second thread has begun
CODE, DIGIT = 127, 127  # the largest
ROUNDING = 1e-9  # more than float64 can add to an error between unit vectors
_TYPES = {"I8": np.int8, "I32": np.int32, "F32": np.float32}
# an ONNX model of one node, opset 17: y = MatMulInteger(a, b), uint8 (m, k) and int8 (k, n) -> int32 (m, n)
_PRODUCT = (
    b'\x08\x08:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03'
    b"\x12\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y\x12"
    b"\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)

TakeRows = Callable[[np.ndarray], np.ndarray]  # (rows,) int64 -> (rows, dim) float32


def is_worthwhile(shape: tuple[int, int]) -> bool:
    """Whether (count, dim) vectors are so many that a coarse copy is worth its room."""
    return shape[0] * shape[1] >= LEAST


def write_quantized(target: Path, shape: tuple[int, int], take: TakeRows) -> None:
    """Write the codes of (count, dim) vectors, fetched twice, block by block. Raises OSError."""
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
        head = _head(layout, _facts(count, 0.0, 0.0))
        file.write(head)
        file.write(offset.tobytes() + step.tobytes())
        sums_at = file.tell()
        file.seek(4 * num_blocks * ROWS, 1)
        sums, max_error, max_code_norm = _write_codes(file, _blocks(count, take), offset, step)
        file.seek(sums_at)
        file.write(sums.tobytes())
        file.seek(0)
        file.write(_head(layout, _facts(count, max_error, max_code_norm)))


def _write_codes(
    file: BinaryIO, blocks: Iterator[np.ndarray], offset: np.ndarray, step: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """(rows,) int32 sums of each vector's codes, the largest distance of a vector from its codes, and their length."""
    sums, max_error, max_code_norm = [], 0.0, 0.0
    for vectors in blocks:
        codes = np.clip(np.rint((vectors - offset) / step), -CODE, CODE)
        wide = codes.astype(np.float64)
        away = vectors.astype(np.float64) - (offset.astype(np.float64) + step.astype(np.float64) * wide)
        max_error = max(max_error, float(np.sqrt((away**2).sum(1).max())))
        max_code_norm = max(max_code_norm, float(np.sqrt((wide**2).sum(1).max())))
        padded = np.zeros((ROWS, len(step)), np.int8)
        padded[: len(codes)] = codes
        sums.append(padded.sum(1, dtype=np.int32))
        file.write(np.ascontiguousarray(padded.T).tobytes())
    return np.concatenate(sums), max_error, max_code_norm


def _blocks(count: int, take: TakeRows) -> Iterator[np.ndarray]:
    for start in range(0, count, ROWS):
        yield take(np.arange(start, min(start + ROWS, count)))


def _facts(count: int, max_error: float, max_code_norm: float) -> dict[str, str]:
    """Of one length, whatever the numbers."""
    return {"count": str(count), "far": f"{max_error:.17e}", "long": f"{max_code_norm:.17e}"}


def _head(layout: dict[str, tuple[str, list[int]]], facts: dict[str, str]) -> bytes:
    """The head of a safetensors file; of one length for one layout, whatever the facts' values."""
    entries: dict[str, Any] = {"__metadata__": facts}
    place = 0
    for name, (kind, shape) in layout.items():
        size = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(entries).encode()
    text = text.ljust(-(-(len(text) + 8) // 64) * 64 - 8)
    return len(text).to_bytes(8, "little") + text


class QuantizedVectors:
    """A written file, mapped. Raises BadData where it is damaged or not of ``shape``, FileNotFoundError."""

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        count, dim = self.shape = shape
        num_blocks = -(-count // ROWS)
        wanted = {"codes": (num_blocks, dim, ROWS), "sums": (num_blocks * ROWS,), "offset": (dim,), "step": (dim,)}
        try:
            parts, facts = _read(path)
            self._far, self._long = float(facts["far"]), float(facts["long"])
            found = {name: part.shape for name, part in parts.items()}
            whole = found == wanted and int(facts["count"]) == count
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadData(f"{path} is damaged: {error}", "make the index again: xmodal index PATH --rebuild") from error
        if not whole:
            raise BadData(f"{path} is of other vectors", "make the index again: xmodal index PATH --rebuild")
        self._codes, self._sums = parts["codes"], parts["sums"]
        self._offset, self._step = (parts[name].astype(np.float64) for name in ("offset", "step"))

    def scores(self, query: np.ndarray) -> tuple[np.ndarray, float]:
        """(dim,) float64 -> (count,) float64 inner products, and by how much one may be wrong at most."""
        scaled = query * self._step
        (first, unit, low), rest = _digits(scaled)
        (second, small_unit, small_low), rest = _digits(rest)
        high_part, low_part = self._products(first, second)
        scores = float(query @ self._offset) + (low + small_low) * self._sums + unit * high_part + small_unit * low_part
        bound = float(np.linalg.norm(query)) * self._far + float(np.linalg.norm(rest)) * self._long
        return scores[: self.shape[0]], bound + ROUNDING * max(1.0, float(np.linalg.norm(query)))

    def _products(self, *digits: np.ndarray) -> list[np.ndarray]:
        """Each digits' (rows,) int32 products with all codes; by two threads, where there is enough to do."""
        found = [np.empty(len(self._codes) * ROWS, np.int32) for _ in digits]

        def multiply(numbers: Sequence[int]) -> None:
            for number in numbers:
                block = self._codes[number]
                for digit, products in zip(digits, found, strict=True):  # the block stays in the processor's cache
                    (part,) = self._session.run(None, {"a": digit[None], "b": block})
                    products[number * ROWS : (number + 1) * ROWS] = part[0]

        numbers = range(len(self._codes))
        if len(numbers) < SHARED or (os.cpu_count() or 1) < 2:
            multiply(numbers)
        else:
            half = len(numbers) // 2
            other = self._helper.submit(multiply, numbers[half:])
            multiply(numbers[:half])
            other.result()
        return found

    @cached_property
    def _helper(self) -> Executor:
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(1)

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])


def _digits(values: np.ndarray) -> tuple[tuple[np.ndarray, float, float], np.ndarray]:
    """(dim,) -> ((dim,) uint8 digits, unit, low) so that ``low + unit * digits`` is near, and what is left."""
    low, high = float(values.min()), float(values.max())
    unit = max((high - low) / DIGIT, 1e-300)
    digits = np.clip(np.rint((values - low) / unit), 0, DIGIT)
    return (digits.astype(np.uint8), unit, low), values - (low + unit * digits)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a safetensors file, mapped, and its metadata. Raises OSError, ValueError, KeyError, TypeError."""
    whole = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(whole[:8].tobytes(), "little")
    if length > len(whole):
        raise ValueError("it is cut off")
    head = json.loads(whole[8 : 8 + length].tobytes())
    facts: dict[str, str] = head.pop("__metadata__")
    parts = {}
    for name, entry in head.items():
        start, stop = entry["data_offsets"]
        parts[name] = whole[8 + length + start : 8 + length + stop].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    return parts, facts
