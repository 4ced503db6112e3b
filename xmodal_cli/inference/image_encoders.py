"""Exported image encoders by model: found in the cache, or exported when a model is first used.

Exports are cached by fingerprint. torch and the export code are imported only when needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from xmodal_cli import paths
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, MissingData, XmodalError
from xmodal_cli.inference.export_cleaning import backbone_fingerprint
from xmodal_cli.inference.onnx_folder import OnnxFolder, source_record
from xmodal_cli.inference.onnx_image_encoder import OnnxBackbone, OnnxImageHead
from xmodal_cli.inference.runtime import needs_torch, require_torch
from xmodal_cli.inference.torch_backbones import check_images_readable
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import FeatureMeta

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo


class _HasFolder(Protocol):
    folder: OnnxFolder


Export = TypeVar("Export", bound=_HasFolder)
ON_CPU = Compute("cpu", "fp32", "onnx")  # of all exports


@dataclass(frozen=True)
class OnnxMatcher:
    """The image side of a matcher on onnxruntime."""

    info: ModelInfo
    backbone: OnnxBackbone
    head: OnnxImageHead


def backbone_folder(meta: FeatureMeta) -> Path:
    """The cache folder of the export of a backbone."""
    return paths.cache_dir() / "image-backbones" / backbone_fingerprint(meta)[:16]


def head_folder(fingerprint: str) -> Path:
    """The cache folder of the export of a matcher's image encoder, by the fingerprint of the model."""
    return paths.cache_dir() / "image-encoders" / fingerprint[:16]


def find(read: Callable[[Path, str], Export], folder: Path, fingerprint: str) -> Export | None:
    """The export in ``folder``, read by the class ``read``; None if there is none that can be used."""
    try:
        return read(folder, fingerprint)
    except (MissingData, BadData):
        return None


def find_or_export(
    read: Callable[[Path, str], Export], folder: Path, fingerprint: str, name: str, export: Callable[[], None]
) -> Export:
    """The export of the model ``name``; ``export`` writes it first if there is none that can be used.

    Raises Unavailable if it cannot be exported, now or before.
    """
    found = find(read, folder, fingerprint)
    if found is None:
        export()
        found = read(folder, fingerprint)
    raise_if_refused(name, found.folder.export_error)
    return found


def load_backbone(model: str, meta: FeatureMeta, reporter: Reporter) -> OnnxBackbone:
    """The exported backbone of the features in ``meta``, which ``model`` reads; exported now if it does not exist.

    Nothing is exported for features that cannot be computed from images. Raises Unavailable if it cannot be exported,
    StorageError, and the errors of ``backbone_of``.
    """
    check_images_readable(model, meta)
    if meta.kind not in ("global", "grid") and not meta.kind.startswith("trunk-"):
        raise needs_torch(f"{meta.kind} of {meta.backbone} cannot be computed by onnxruntime, only with torch")
    folder, fingerprint = backbone_folder(meta), backbone_fingerprint(meta)
    return find_or_export(
        OnnxBackbone, folder, fingerprint, meta.backbone, lambda: _export_backbone(model, meta, reporter)
    )


def load_matcher_images(info: ModelInfo, reporter: Reporter, loaded: LoadedMatcher | None = None) -> OnnxMatcher:
    """The exported image side of a matcher; exported now if it does not exist. ``loaded`` is the model if it is loaded.

    Raises Unavailable if it cannot be exported, StorageError, and the errors of ``load_matcher`` and ``backbone_of``.
    """
    backbone, folder = load_backbone(info.name, info.meta, reporter), head_folder(info.fingerprint)
    head = find_or_export(
        OnnxImageHead, folder, info.fingerprint, info.name, lambda: _export_head(info, backbone, reporter, loaded)
    )
    return OnnxMatcher(info, backbone, head)


def ensure(info: ModelInfo, reporter: Reporter, loaded: LoadedMatcher | None) -> None:
    """Export the image side of a matcher if it was loaded and can be exported; the next photos then need no torch."""
    if loaded is None:
        return
    with contextlib.suppress(XmodalError):
        load_matcher_images(info, reporter, loaded)


def _export_backbone(model: str, meta: FeatureMeta, reporter: Reporter) -> None:
    from xmodal_cli.inference.bundled_graphs import BACKBONES, export_bundled_image
    from xmodal_cli.inference.onnx_writing import ExportRecord

    reporter.info(f"exporting {meta.backbone} to ONNX, once")
    source = source_record(f"{meta.backbone} {meta.kind} {meta.crops}", Path())
    record = ExportRecord("image backbone", meta.backbone, backbone_fingerprint(meta), source)
    if export_bundled_image(BACKBONES, record, backbone_folder(meta)):
        return
    require_torch(f"exporting {meta.backbone}")
    from xmodal_cli.inference.onnx_image_export import export_backbone
    from xmodal_cli.inference.torch_backbones import backbone_of

    export_backbone(backbone_of(model, meta), record, backbone_folder(meta))


def _export_head(info: ModelInfo, backbone: OnnxBackbone, reporter: Reporter, loaded: LoadedMatcher | None) -> None:
    from xmodal_cli.inference.bundled_graphs import HEAD, export_bundled_image
    from xmodal_cli.inference.onnx_writing import ExportRecord

    reporter.info(f"exporting the image encoder of {info.name} to ONNX, once")
    record = ExportRecord("image encoder", info.name, info.fingerprint, source_record(info.source, info.path))
    if export_bundled_image((HEAD,), record, head_folder(info.fingerprint)):
        return
    require_torch(f"exporting {info.name}")
    from xmodal_cli.features.extraction import forward_images
    from xmodal_cli.inference.matchers import load_matcher
    from xmodal_cli.inference.onnx_export import move_to_cpu
    from xmodal_cli.inference.onnx_image_export import EncodeImage, export_head

    features = forward_images(sample_views(backbone), backbone)
    on_cpu = move_to_cpu(loaded or load_matcher(info, ON_CPU))
    export_head(EncodeImage(on_cpu.model), record, features, head_folder(info.fingerprint))


def raise_if_refused(name: str, reason: str) -> None:
    """Raise Unavailable if there is a ``reason`` why a model could not be exported."""
    if reason:
        raise needs_torch(f"{name} could not be exported to ONNX: {reason}")


def sample_views(backbone: OnnxBackbone) -> list[np.ndarray]:
    """(crops, 3, size, size) uint8 per image: each has as many views as a photo."""
    from xmodal_cli.inference.onnx_image_export import sample_images

    pixels = sample_images(int(backbone.meta.preprocessing["size"]))
    views = [np.roll(pixels, -crop, axis=0) for crop in range(backbone.meta.crops)]
    return list(np.stack(views, axis=1))
