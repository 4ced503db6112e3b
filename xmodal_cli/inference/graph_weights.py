"""ONNX graphs without weights: the bundled models become exports without torch.

Such a graph names, for each large initializer, the tensor of a file that it is: of the bundled model, of an installed
package, or a range of bytes of a file that is not in the safetensors format. The files are checked by their sha256, so
that nothing has to be unpickled. ``graph_stripping`` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from xmodal_cli.errors import BadModel
from xmodal_cli.file_errors import open_safetensors, reading

WEIGHTS, FACTS = "xmodal_weights", "xmodal_facts"  # keys of the metadata of a graph
HINT = "reinstall xmodal"


def read_facts(file: Path) -> dict[str, Any]:
    """What the graph in ``file`` was made of: at least ``fingerprint``, that of the weights. Raises BadModel."""
    with reading(file, HINT, BadModel):
        facts: dict[str, Any] = json.loads(_properties(onnx.load(file, load_external_data=False))[FACTS])
        return facts


def load_graph(file: Path, sources: Mapping[str, Callable[[], Path]]) -> Any:
    """The graph in ``file`` with its weights, as an onnx.ModelProto; ``sources`` are functions that find their files.

    Raises BadModel, and the errors of ``sources``.
    """
    with reading(file, HINT, BadModel):
        graph = onnx.load(file)
        records = json.loads(_properties(graph)[WEIGHTS])
    readers = {name: _Reader(sources[name]()) for name in {record["source"] for record in records.values()}}
    for name, record in records.items():
        values = readers[record["source"]].read(record)
        graph.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return graph


class _Reader:
    """Reads tensors of one file, as float32."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with reading(file, HINT, BadModel):
            self._tensors = open_safetensors(file, "np") if file.suffix == ".safetensors" else None
            self._bytes = None if self._tensors is not None else np.memmap(file, np.uint8, mode="r")

    def read(self, record: Mapping[str, Any]) -> np.ndarray:
        with reading(self._file, HINT, BadModel):
            if self._tensors is not None:
                values: np.ndarray = self._tensors.get_tensor(record["tensor"])
            else:
                assert self._bytes is not None
                axes = record["stored_axes"]
                start, size = record["offset"], 4 * int(np.prod(record["shape"], dtype=np.int64))
                stored = self._bytes[start : start + size].view("<f4").reshape([record["shape"][axis] for axis in axes])
                values = np.ascontiguousarray(stored.transpose(np.argsort(axes)))
            values = values.astype(np.float32).reshape(record["shape"])
            return np.ascontiguousarray(values.T) if record.get("transposed") else values


def _properties(graph: Any) -> dict[str, str]:
    return {prop.key: prop.value for prop in graph.metadata_props}
