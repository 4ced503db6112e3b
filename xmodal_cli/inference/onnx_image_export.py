"""Export of image backbones, image encoders of matchers, and taggers, to ONNX, compared with torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from xmodal_cli.backbones.network import NetworkBackbone
from xmodal_cli.inference.onnx_image_encoder import GRAPH, INPUT, OUTPUT, OnnxBackbone, OnnxImageHead
from xmodal_cli.inference.onnx_tracing import trace
from xmodal_cli.inference.onnx_writing import ExportRecord, save_graph, write_export

if TYPE_CHECKING:
    from xmodal_cli.types import ImageBackbone

MIN_COSINE = 0.9999  # between an output of the export and of torch
STEM = Path(GRAPH).stem
NAMES = ([INPUT], [OUTPUT])


def export_backbone(backbone: ImageBackbone, record: ExportRecord, folder: Path) -> None:
    """Export a backbone that was just built, on the CPU in float32. Raises Unavailable and StorageError."""
    write_export(folder, record, lambda draft: _write_backbone(backbone, record, draft))


def export_head(head: nn.Module, record: ExportRecord, features: np.ndarray, folder: Path) -> None:
    """Export what a model computes from the features of one image, (1, ...) -> (1, dim), on the CPU in float32.

    ``features`` (images, ...) float32 are those of different images. Raises Unavailable and StorageError.
    """
    write_export(folder, record, lambda draft: _write_head(head, record, features, draft))


def sample_images(size: int) -> np.ndarray:
    """(images, 3, size, size) uint8: noise at several scales, on different colors, to compare outputs."""
    rng = np.random.default_rng(0)
    images = []
    for cells in (2, 4, 8, 16, size):
        coarse = rng.integers(0, 256, (3, cells, cells), dtype=np.uint8)
        repeats = -(-size // cells)
        images.append(coarse.repeat(repeats, 1).repeat(repeats, 2)[:, :size, :size])
    return np.stack(images)


def _write_backbone(backbone: ImageBackbone, record: ExportRecord, draft: Path) -> None:
    if not isinstance(backbone, NetworkBackbone):
        raise TypeError(f"{backbone.meta.backbone} is not a single network")
    pixels = sample_images(backbone.preprocessing.size)
    graph = trace(backbone.tower, [torch.from_numpy(pixels[:1])], NAMES)
    save_graph(graph, draft, STEM)
    facts = {"meta": asdict(backbone.meta)}
    record.save(draft, facts)
    expected = _run_one_by_one(backbone.tower, pixels)
    agreement = _min_cosine(OnnxBackbone(draft, record.fingerprint).encode(pixels), expected)
    record.save(draft, facts | {"agreement": agreement})


class EncodeImage(nn.Module):
    """(1, ...) features -> (1, embed_dim)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        vector: Tensor = self.model.encode_image(features)
        return vector


class TagProbabilities(nn.Module):
    """(1, ...) features -> (1, tags) probabilities."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        probabilities: Tensor = self.model(features).sigmoid()
        return probabilities


def _write_head(head: nn.Module, record: ExportRecord, features: np.ndarray, draft: Path) -> None:
    save_graph(trace(head, [torch.from_numpy(features[:1])], NAMES), draft, STEM)
    expected = _run_one_by_one(head, features)
    facts = {"embed_dim": expected.shape[1]}
    record.save(draft, facts)
    vectors = OnnxImageHead(draft, record.fingerprint).embed_features(features)
    agreement = _min_cosine(vectors, expected)
    record.save(draft, facts | {"agreement": agreement})


def _run_one_by_one(module: nn.Module, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([module(torch.from_numpy(rows[n : n + 1])).float().numpy() for n in range(len(rows))])


def _min_cosine(outputs: np.ndarray, expected: np.ndarray) -> float:
    """The minimum cosine per image between outputs of the export and of torch. Raises ValueError if they differ."""
    first, second = (part.reshape(len(part), -1).astype(np.float64) for part in (outputs, expected))
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    agreement = float(((first * second).sum(1) / np.maximum(norms[0] * norms[1], 1e-12)).min())
    if not (agreement > MIN_COSINE and np.allclose(*norms, rtol=1e-3, atol=1e-6)):
        raise ValueError(f"its outputs differ from torch's: cosine {agreement:.6f}")
    return agreement
