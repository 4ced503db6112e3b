"""Captioners on the runtime that is requested, or faster: exported, or with torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from xmodal_cli import paths
from xmodal_cli.inference.caption_types import CaptionRequest, override_decoding
from xmodal_cli.inference.captioners import LoadedCaptioner, load_captioner
from xmodal_cli.inference.image_encoders import ON_CPU, find_or_export, load_backbone
from xmodal_cli.inference.models import ModelInfo, describe_model
from xmodal_cli.inference.onnx_captioner import OnnxCaptioner
from xmodal_cli.inference.onnx_folder import source_record
from xmodal_cli.inference.reranking import export_reranker
from xmodal_cli.inference.runtime import load_on_runtime, require_torch
from xmodal_cli.inference.tag_requests import check_tags
from xmodal_cli.inference.tagger_runtime import load_exported_tagger
from xmodal_cli.inference.weights import read_tokenizer
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Captioner


def load_captioners(
    infos: Sequence[ModelInfo], request: CaptionRequest, num_images: int, reporter: Reporter
) -> list[LoadedCaptioner]:
    """The captioners ``infos``, all on one runtime, for about ``num_images`` images.

    Captioners that cannot be exported, or whose exports cannot be written, run with torch, unless onnxruntime is
    requested; their tagger runs with the same library. Raises the errors of ``choose_runtime`` and
    ``load_captioner``, and Unavailable.
    """
    return load_on_runtime(
        request.compute,
        num_images,
        reporter,
        lambda: _load_exported(infos, request, reporter),
        lambda: [load_captioner(info, request.compute) for info in infos],
    )


def captioner_folder(fingerprint: str) -> Path:
    """The cache folder of the export of a captioner, by the fingerprint of the model."""
    return paths.cache_dir() / "captioners" / fingerprint[:16]


def load_exported_captioner(info: ModelInfo, reporter: Reporter) -> LoadedCaptioner:
    """The exported captioner; exported now if it does not exist.

    Raises Unavailable if it cannot be exported, StorageError, and the errors of ``load_captioner``.
    """
    folder = captioner_folder(info.fingerprint)
    model = find_or_export(OnnxCaptioner, folder, info.fingerprint, info.name, lambda: _export(info, folder, reporter))
    return LoadedCaptioner(info, ON_CPU, cast(Captioner, model), read_tokenizer(info))


def _load_exported(infos: Sequence[ModelInfo], request: CaptionRequest, reporter: Reporter) -> list[LoadedCaptioner]:
    _, tagger = check_tags(request.tags, infos[0], read_tokenizer(infos[0]))
    if tagger is not None:
        load_exported_tagger(describe_model(tagger), reporter)
    export_reranker(override_decoding(infos[0].config.decoding, request.settings), reporter)
    for info in infos:
        load_backbone(info.name, info.meta, reporter)  # exported first: a captioner is compared on its features
    return [load_exported_captioner(info, reporter) for info in infos]


def _export(info: ModelInfo, folder: Path, reporter: Reporter) -> None:
    from xmodal_cli.inference.bundled_graphs import export_bundled_captioner
    from xmodal_cli.inference.onnx_writing import ExportRecord

    reporter.info(f"exporting {info.name} to ONNX, once")
    record = ExportRecord("captioner", info.name, info.fingerprint, source_record(info.source, info.path))
    if export_bundled_captioner(record, folder):
        return
    require_torch(f"exporting {info.name}")
    from torch import nn

    from xmodal_cli.inference.onnx_captioner_export import export_captioner
    from xmodal_cli.inference.onnx_image_export import sample_images

    backbone = load_backbone(info.name, info.meta, reporter)
    features = backbone.encode(sample_images(int(backbone.meta.preprocessing["size"])))
    model = load_captioner(info, ON_CPU).model
    assert isinstance(model, nn.Module)
    export_captioner(model, features, record, folder)
