"""Exported image encoders: a backbone, and the image encoder of a matcher on top of its features, without torch.

Each folder has one graph (``encoder.onnx``, with memory-mapped large weights in ``encoder.bin``) for one image: one at
a time is faster on a CPU than a batch. Written by ``onnx_image_export``.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.inference.onnx_folder import HINT, OnnxFolder, open_session, running
from xmodal_cli.types import FeatureMeta

if TYPE_CHECKING:
    from PIL import Image

    from xmodal_cli.device import Compute

GRAPH = "encoder.onnx"
INPUT, OUTPUT = "images", "features"


class OnnxGraph:
    """A graph of one input and one output, both with one row; the session is opened on first use. Thread-safe."""

    def __init__(self, path: Path, convolutional: bool) -> None:
        self._path, self._convolutional = path, convolutional
        self._session: Any = None
        self._lock = threading.Lock()

    def run(self, rows: np.ndarray) -> np.ndarray:
        """(rows, ...) -> (rows, ...), one row at a time. Raises BadData."""
        with self._lock:
            if self._session is None:
                self._session = open_session(self._path, packed=True, convolutional=self._convolutional)
        hint = f"delete {self._path.parent}; {HINT}"
        with running(self._path, hint):
            outputs = [self._session.run([OUTPUT], {INPUT: rows[n : n + 1]})[0] for n in range(len(rows))]
            result: np.ndarray = np.concatenate(outputs)
            return result


class OnnxBackbone:
    """An ``ImageBackbone`` in the folder ``path``. Raises MissingData, BadData; see ``OnnxFolder``."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.folder = OnnxFolder(path, fingerprint, _check_backbone)
        self.weights_file: Path | None = None
        self._graph = OnnxGraph(path / GRAPH, convolutional=True)
        if not self.folder.export_error:
            self.meta = FeatureMeta(**self.folder.metadata["meta"])
            facts = self.meta.preprocessing
            self._preprocessing = Preprocessing(
                int(facts["size"]), tuple(facts["mean"]), tuple(facts["std"]), self.meta.crops
            )

    def preprocess(self, image: Image.Image) -> np.ndarray:
        return self._preprocessing.array(image)

    def to(self, compute: Compute) -> None:
        """Nothing to move: it runs on the CPU, in float32."""

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._graph.run(pixels)


class OnnxImageHead:
    """The image encoder of a matcher, in the folder ``path``. Raises MissingData, BadData; see ``OnnxFolder``."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.folder = OnnxFolder(path, fingerprint, _check_head)
        self._graph = OnnxGraph(path / GRAPH, convolutional=True)

    def embed_features(self, values: np.ndarray) -> np.ndarray:
        """(images, dim) or (images, cells, dim) features -> (images, embed_dim) float32."""
        if not len(values):
            return np.zeros((0, self.folder.metadata["embed_dim"]), np.float32)
        return self._graph.run(values.astype(np.float32, copy=False))


def _check_backbone(metadata: dict[str, Any]) -> None:
    """Raise an exception, of any type, for metadata that ``onnx_image_export`` did not write."""
    facts = FeatureMeta(**metadata["meta"]).preprocessing
    if not all(len(facts[name]) == 3 and all(isinstance(x, float) for x in facts[name]) for name in ("mean", "std")):
        raise ValueError("its mean or std is not three numbers")
    if type(facts["size"]) is not int or not 1 <= facts["size"] <= 1 << 14:
        raise ValueError("its size is not a number of pixels")
    _check_graph(metadata)


def _check_head(metadata: dict[str, Any]) -> None:
    """``_check_backbone`` for the image encoder of a matcher."""
    if type(metadata["embed_dim"]) is not int:
        raise ValueError("its embed_dim is not a number")
    _check_graph(metadata)


def _check_graph(metadata: dict[str, Any]) -> None:
    if GRAPH not in metadata["files"]:
        raise ValueError("it has no graph")
