"""Writes ONNX graphs without weights, for the bundled models; ``graph_weights`` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from xmodal_cli.file_errors import open_safetensors
from xmodal_cli.inference.graph_weights import FACTS, WEIGHTS

MIN_STRIPPED = 64  # values; smaller initializers stay in the graph


def strip_weights(graph: Any, facts: Mapping[str, Any], sources: Mapping[str, Path], file: Path) -> None:
    """Write ``graph``, an onnx.ModelProto, to ``file`` without its large initializers.

    ``sources`` are the files that contain them: safetensors, or others with plain float32 values. Raises ValueError for
    an initializer that none of them contains.
    """
    known = {_key(values): record for name, path in sources.items() for record, values in _tensors(name, path)}
    raw = {name: path.read_bytes() for name, path in sources.items() if path.suffix != ".safetensors"}
    records, kept = {}, []
    for initializer in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(initializer)
        if values.size < MIN_STRIPPED or values.dtype != np.float32:
            kept.append(initializer)
            continue
        records[initializer.name] = _find(values, known, raw)
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    graph.doc_string = ""
    for node in graph.graph.node:
        node.doc_string = ""
    for key, content in ((WEIGHTS, records), (FACTS, facts)):
        prop = graph.metadata_props.add()
        prop.key, prop.value = key, json.dumps(content)
    file.write_bytes(graph.SerializeToString())


def _find(values: np.ndarray, known: Mapping[Any, dict[str, Any]], raw: Mapping[str, bytes]) -> dict[str, Any]:
    """The record of a tensor in the sources. Raises ValueError."""
    if (record := known.get(_key(values))) is not None:
        return record
    if values.ndim == 2 and (record := known.get(_key(values.T))) is not None:
        return {**record, "transposed": True}
    for source, content in raw.items():
        for axes in permutations(range(values.ndim)):  # a tensor may be stored in another order of its axes
            if (offset := content.find(values.transpose(axes).tobytes())) >= 0:
                return {"source": source, "offset": offset, "shape": list(values.shape), "stored_axes": list(axes)}
    raise ValueError(f"weights of shape {values.shape} are in none of the files")


def _tensors(source: str, file: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    if file.suffix != ".safetensors":
        return
    with open_safetensors(file, "np") as opened:
        for name in opened.keys():  # noqa: SIM118 (not a dict)
            values = opened.get_tensor(name)
            if values.dtype in (np.float32, np.float16):
                yield {"source": source, "tensor": name, "shape": list(values.shape)}, values.astype(np.float32)


def _key(values: np.ndarray) -> tuple[Any, ...]:
    return values.shape, hash(np.ascontiguousarray(values).tobytes())
