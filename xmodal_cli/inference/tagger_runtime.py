"""Taggers on onnxruntime: exported when first used, and cached by fingerprint."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.inference.image_encoders import ON_CPU, find_or_export, load_backbone, sample_views
from xmodal_cli.inference.models import ModelInfo
from xmodal_cli.inference.onnx_folder import source_record
from xmodal_cli.inference.onnx_image_encoder import OnnxBackbone, OnnxImageHead
from xmodal_cli.inference.runtime import require_torch
from xmodal_cli.inference.taggers import LoadedTagger, load_tagger, tags_of
from xmodal_cli.reporter import Reporter


def tagger_folder(fingerprint: str) -> Path:
    """The cache folder of the export of a tagger, by the fingerprint of the model."""
    return paths.cache_dir() / "taggers" / fingerprint[:16]


def load_exported_tagger(info: ModelInfo, reporter: Reporter) -> LoadedTagger:
    """The exported tagger; exported now if it does not exist, and its image backbone too.

    Raises Unavailable if it cannot be exported, StorageError, and the errors of ``load_tagger``.
    """
    backbone, folder = load_backbone(info.name, info.meta, reporter), tagger_folder(info.fingerprint)
    model = find_or_export(
        OnnxImageHead, folder, info.fingerprint, info.name, lambda: _export(info, backbone, folder, reporter)
    )
    return LoadedTagger(info, ON_CPU, model, tags_of(info))


def _export(info: ModelInfo, backbone: OnnxBackbone, folder: Path, reporter: Reporter) -> None:
    from xmodal_cli.inference.onnx_writing import ExportRecord

    reporter.info(f"exporting {info.name} to ONNX, once")
    require_torch(f"exporting {info.name}")
    from torch import nn

    from xmodal_cli.features.extraction import forward_images
    from xmodal_cli.inference.onnx_image_export import TagProbabilities, export_head

    record = ExportRecord("tagger", info.name, info.fingerprint, source_record(info.source, info.path))
    model = load_tagger(info, ON_CPU).model
    assert isinstance(model, nn.Module)
    export_head(TagProbabilities(model), record, forward_images(sample_views(backbone), backbone), folder)
