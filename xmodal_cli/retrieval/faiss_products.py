"""Inner products of vectors in half precision by FAISS, which reads them where they are in the mapped file.

onnxruntime (``half_precision.py``) needs an aligned copy and takes three times as long. But the import of FAISS takes
longer than a search of a million vectors, so it is imported in a thread, beside the second search of a process.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

MIN_VECTORS = 8192  # the vectors of a smaller index are scored in a few milliseconds without FAISS


class _Import:
    """The state of the import: the thread, and the module once it is imported."""

    lock = threading.Lock()
    thread: threading.Thread | None = None
    module: Any = None


def start_import(num_vectors: int) -> None:
    """Import FAISS in a thread, if it is installed and an index of so many vectors will be searched again."""
    with _Import.lock:
        if _Import.thread is None and num_vectors >= MIN_VECTORS and find_spec("faiss") is not None:
            _Import.thread = threading.Thread(target=_import, name="import faiss")
            _Import.thread.start()


def is_imported() -> bool:
    """Whether FAISS can be used now."""
    return _Import.module is not None


def inner_products(codes: np.ndarray, runs: Sequence[tuple[int, int]], direction: np.ndarray) -> np.ndarray | None:
    """(n, 2 * dim) uint8, which are (n, dim) float16, runs of rows, (dim,) float32 -> (rows,) float32.

    None if a product is not a number or minus infinity. FAISS must have been imported.
    """
    faiss = _Import.module
    quantizer = faiss.ScalarQuantizer(len(direction), faiss.ScalarQuantizer.QT_fp16)
    scanner = quantizer.select_InvertedListScanner(faiss.METRIC_INNER_PRODUCT, None, True, None)
    direction = np.ascontiguousarray(direction, np.float32)
    scanner.set_query(faiss.swig_ptr(direction))
    result = faiss.RangeSearchResult(1)
    partial = faiss.RangeSearchPartialResult(result)
    found = partial.new_result(0)
    for start, stop in runs:
        scanner.scan_codes_range(stop - start, faiss.swig_ptr(codes[start:stop]), None, -np.inf, found)
    partial.finalize()
    count = int(faiss.rev_swig_ptr(result.lims, 2)[1])
    if count != sum(stop - start for start, stop in runs):
        return None
    products: np.ndarray = faiss.rev_swig_ptr(result.distances, count).copy() if count else np.zeros(0, np.float32)
    return products


def _import() -> None:
    try:
        _Import.module = import_module("faiss")
    except (ImportError, OSError):  # a damaged installation: onnxruntime is used
        return
