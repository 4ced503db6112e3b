"""The graph of a text encoder on disk, with the word embeddings outside: a sentence needs only a few of their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from xmodal_cli.inference.onnx_text_encoder import GRAPH, TOKENS_IN, WORDS, WORDS_IN
from xmodal_cli.inference.onnx_writing import save_graph


def write_text_graph(graph: Any, draft: Path) -> list[str]:
    """Write the graph of a text encoder, its weights and word embeddings; return the input names of the graph."""
    table = _extract_embeddings(graph.graph)
    if table is not None:
        np.save(draft / WORDS, table)
    save_graph(graph, draft, Path(GRAPH).stem)
    return [i.name for i in graph.graph.input]


def _extract_embeddings(graph: Any) -> np.ndarray | None:
    """Remove the word embeddings from the graph and return them; their rows become an input of the graph."""
    tables = {tensor.name: tensor for tensor in graph.initializer}
    lookups = [n for n in graph.node if n.op_type == "Gather" and n.input[0] in tables and n.input[1] == TOKENS_IN]
    if len(lookups) != 1:
        return None
    (lookup,) = lookups
    tensor = tables[lookup.input[0]]
    table: np.ndarray = onnx.numpy_helper.to_array(tensor)
    if table.ndim != 2 or table.dtype != np.float32:
        return None
    graph.input.append(onnx.helper.make_tensor_value_info(WORDS_IN, tensor.data_type, [1, "length", table.shape[1]]))
    graph.node.remove(lookup)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == lookup.output[0]:
                node.input[index] = WORDS_IN
    if not any(tensor.name in node.input for node in graph.node):
        graph.initializer.remove(tensor)
    if not any(TOKENS_IN in node.input for node in graph.node):
        graph.input.remove(next(i for i in graph.input if i.name == TOKENS_IN))
    return table
