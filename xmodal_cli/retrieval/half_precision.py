"""Converts vectors in half precision to float32, and scores them, at the speed of memory.

numpy converts element by element, which takes ten times as long. The operator Cast of onnxruntime, which a search has
imported for the text encoder, uses the instructions of the CPU. Its Gemm with one row scores what Cast has converted in
half the time of numpy's product, and in one thread: that of a BLAS starts threads for each block. Once a process has
imported FAISS (``faiss_products.py``), that scores them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from xmodal_cli.retrieval import faiss_products

# an ONNX model of one node, opset 17: y = Cast(a), float16 (n) -> float32 (n)
_CAST = (
    b'\x08\x08:@\n\x17\n\x01a\x12\x01y"\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02\x12\x01cZ\x10\n\x01a\x12\x0b\n\t\x08\n'
    b"\x12\x05\n\x03\x12\x01nb\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)

# Cast(a) -> c; y = Gemm(b, c, transB=1): float16 (n, d), float32 (1, d) -> float32 (1, n)
_INNER_PRODUCTS = (
    b'\x08\x08:\x7f\n\x17\n\x01a\x12\x01c"\x04Cast*\t\n\x02to\x18\x01\xa0\x01\x02\n\x1e\n\x01b\n\x01c\x12\x01y"\x04Gemm'
    b"*\r\n\x06transB\x18\x01\xa0\x01\x02\x12\x01gZ\x15\n\x01a\x12\x10\n\x0e\x08\n\x12\n\n\x03\x12\x01n\n\x03\x12\x01dZ\x14"
    b"\n\x01b\x12\x0f\n\r\x08\x01\x12\t\n\x02\x08\x01\n\x03\x12\x01db\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x02\x08\x01"
    b"\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)


def half_to_float32(values: np.ndarray) -> np.ndarray:
    """float16 -> float32 of the same shape, exactly; a new array."""
    (converted,) = _session(_CAST).run(None, {"a": np.ascontiguousarray(values).reshape(-1)})
    return np.asarray(converted).reshape(values.shape)


def half_inner_products(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(n, dim) float16, (dim,) float32 -> (n,) float32, with the rounding of a product in float32."""
    vectors = np.ascontiguousarray(vectors)
    if faiss_products.is_imported() and len(vectors):
        found = faiss_products.inner_products(vectors.view(np.uint8), [(0, len(vectors))], direction)
        if found is not None:
            return found
    inputs = {"a": vectors, "b": direction[None]}
    ((products,),) = _session(_INNER_PRODUCTS).run(None, inputs)
    return np.asarray(products)


@cache
def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
