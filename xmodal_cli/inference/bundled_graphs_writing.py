"""Writes the graphs of the bundled models without their weights, after the bundled models were trained again.

The last step of ``examples/build_starter.py``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xmodal_cli import starter
from xmodal_cli.backbones.image import efficientnet_lite2
from xmodal_cli.backbones.image_backbones import build_backbone
from xmodal_cli.backbones.network import NetworkBackbone, PixelTower
from xmodal_cli.device import Compute
from xmodal_cli.inference import bundled_graphs
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.inference.export_cleaning import backbone_fingerprint
from xmodal_cli.inference.graph_stripping import strip_weights
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.inference.onnx_captioner_export import trace_captioner
from xmodal_cli.inference.onnx_export import trace_text
from xmodal_cli.inference.onnx_image_export import NAMES, EncodeImage
from xmodal_cli.inference.onnx_tracing import trace
from xmodal_cli.types import FeatureMeta

NUM_PUBLISHED = 20  # layers before the last three blocks, which the bundled matcher fine-tuned
ON_CPU = Compute("cpu", "fp32", "torch")


def write_bundled_graphs(folder: Path) -> None:
    """Write all graphs to ``folder``, from the bundled models."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_captioner(folder)
    _write_matcher(folder)


def _write_matcher(folder: Path) -> None:
    loaded = load_matcher(starter.MATCHER, ON_CPU)
    assert isinstance(loaded.model, nn.Module)
    _write_backbone(loaded.meta, folder / bundled_graphs.BACKBONES[0])
    size = int(loaded.meta.preprocessing["size"])
    features = (
        build_backbone(loaded.meta.backbone, loaded.meta.kind).encode(torch.zeros(1, 3, size, size)).clone().float()
    )
    head = trace(EncodeImage(loaded.model), [features], NAMES, is_folded=False)
    _strip(head, loaded.info.fingerprint, {"embed_dim": loaded.info.embed_dim}, folder / bundled_graphs.HEAD)
    facts = {"length": 0, "pad_id": 0, "embed_dim": loaded.info.embed_dim}
    _strip(trace_text(loaded, is_folded=False), loaded.info.fingerprint, facts, folder / bundled_graphs.TEXT)


def _write_captioner(folder: Path) -> None:
    loaded = load_captioner(starter.CAPTIONER, ON_CPU)
    assert isinstance(loaded.model, nn.Module)
    _write_backbone(loaded.meta, folder / bundled_graphs.BACKBONES[1])
    features = torch.randn(4, 81, loaded.meta.dim, generator=torch.Generator().manual_seed(0))
    start, step, facts = trace_captioner(loaded.model, features, is_folded=False)
    for graph, name in zip((start, step), bundled_graphs.CAPTIONER, strict=True):
        _strip(graph, loaded.info.fingerprint, facts, folder / name)


def _write_backbone(meta: FeatureMeta, file: Path) -> None:
    """The backbone with separate batch norms where the weights are those of the published file."""
    backbone = build_backbone(meta.backbone, meta.kind)
    assert isinstance(backbone, NetworkBackbone) and isinstance(backbone.tower.network, nn.Sequential)
    published = efficientnet_lite2.unfolded_layers(efficientnet_lite2.packaged_file())[:NUM_PUBLISHED]
    tower = PixelTower(nn.Sequential(*published, *list(backbone.tower.network)[NUM_PUBLISHED:]), backbone.preprocessing)
    size = backbone.preprocessing.size
    graph = trace(tower, [torch.zeros(1, 3, size, size, dtype=torch.uint8)], NAMES, is_folded=False)
    _strip(graph, backbone_fingerprint(meta), {"meta": asdict(meta)}, file)


def _strip(graph: Any, fingerprint: str, facts: dict[str, Any], file: Path) -> None:
    files = {name: find() for name, find in bundled_graphs.sources().items()}
    strip_weights(graph, {"fingerprint": fingerprint, "export": facts}, files, file)
