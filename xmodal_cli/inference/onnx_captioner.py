"""An exported captioner: decoding steps on onnxruntime, with NumPy arrays, without torch.

The folder has two graphs. ``start.onnx`` encodes images; its outputs are the initial state. ``step.onnx`` appends a
token to each row. ``export.json`` names the parts of the state: ``rows`` are reordered by beam search, ``changed`` are
new after each step, the others belong to the images. Written by ``onnx_captioner_export``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.inference.onnx_folder import HINT, OnnxFolder, open_session, running

START, STEP = "start.onnx", "step.onnx"
FEATURES_IN, TOKENS_IN, POSITION_IN = "image_features", "tokens", "position"
LOG_PROBS_OUT, ATTENTION_OUT = "log_probs", "attention"
NEW = "new_"  # prefix of the outputs of a step that replace parts of the state


@dataclass(frozen=True)
class OnnxCaptionState:
    """A ``types.CaptionState`` of arrays: the parts of the state by name, those in ``rows`` are (images, rows, ...)."""

    parts: dict[str, np.ndarray]
    rows: Sequence[str]
    position: int = 0
    attention: np.ndarray | None = None

    def select(self, parents: np.ndarray) -> OnnxCaptionState:
        """See ``types.CaptionState``."""
        selected = {name: np.take_along_axis(self.parts[name], parents[..., None], 1) for name in self.rows}
        return replace(self, parts=self.parts | selected, attention=None)


class OnnxCaptioner:
    """``start`` and ``step`` of a ``types.Captioner``, of arrays, in the folder ``path``.

    Raises MissingData, BadData; see ``OnnxFolder``.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.folder = OnnxFolder(path, fingerprint, _check_metadata)
        self._path, self._metadata = path, self.folder.metadata
        self.vocab_size = int(self._metadata.get("vocab_size", 0))

    def start(self, image_features: np.ndarray) -> OnnxCaptionState:
        """See ``types.Captioner``."""
        features = np.ascontiguousarray(image_features, np.float32)
        outputs = self._run(START, self._sessions[0], self._metadata["state"], {FEATURES_IN: features})
        return OnnxCaptionState(outputs, self._metadata["rows"], self._metadata["position"])

    def step(self, state: OnnxCaptionState, tokens: np.ndarray) -> tuple[np.ndarray, OnnxCaptionState]:
        """See ``types.Captioner``."""
        changed, has_attention = self._metadata["changed"], self._metadata["attention"]
        names = [LOG_PROBS_OUT, *([ATTENTION_OUT] if has_attention else []), *(NEW + name for name in changed)]
        values = {TOKENS_IN: tokens, POSITION_IN: np.array(state.position, np.int64), **state.parts}
        inputs = {name: values[name] for name in self._metadata["inputs"]}
        outputs = self._run(STEP, self._sessions[1], names, inputs)
        parts = state.parts | {name: outputs[NEW + name] for name in changed}
        attention = outputs.get(ATTENTION_OUT)
        return outputs[LOG_PROBS_OUT], OnnxCaptionState(parts, state.rows, state.position + 1, attention)

    def _run(self, graph: str, session: Any, names: Sequence[str], inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        hint = f"delete {self._path}; {HINT}"
        with running(self._path / graph, hint):
            return dict(zip(names, session.run(list(names), inputs), strict=True))

    @cached_property
    def _sessions(self) -> tuple[Any, Any]:
        return open_session(self._path / START, packed=False), open_session(self._path / STEP, packed=True)


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Raise an exception, of any type, for metadata that ``onnx_captioner_export`` did not write."""
    if not {START, STEP} <= metadata["files"].keys():
        raise ValueError("its files are incomplete")
    lists = [metadata[key] for key in ("state", "rows", "changed", "inputs")]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("its names are not lists of text")
    if not {*metadata["rows"], *metadata["changed"]} <= {*metadata["state"]}:
        raise ValueError("its state is incomplete")
    if not {*metadata["inputs"]} <= {*metadata["state"], TOKENS_IN, POSITION_IN}:
        raise ValueError("its inputs are unknown")
    if not all(type(metadata[name]) is int for name in ("vocab_size", "position")):
        raise ValueError("its sizes are not numbers")
    if type(metadata["attention"]) is not bool:
        raise ValueError("its attention is not true or false")
