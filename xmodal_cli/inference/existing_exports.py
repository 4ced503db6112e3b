"""Whether a model was exported, so that it can be used without torch."""

from __future__ import annotations

from xmodal_cli import starter
from xmodal_cli.inference import text_encoders
from xmodal_cli.inference.caption_runtime import captioner_folder
from xmodal_cli.inference.export_cleaning import backbone_fingerprint
from xmodal_cli.inference.image_encoders import backbone_folder, find, head_folder
from xmodal_cli.inference.models import ModelInfo
from xmodal_cli.inference.onnx_captioner import OnnxCaptioner
from xmodal_cli.inference.onnx_image_encoder import OnnxBackbone, OnnxImageHead
from xmodal_cli.inference.onnx_text_encoder import OnnxTextEncoder
from xmodal_cli.inference.tagger_runtime import tagger_folder

_Export = OnnxBackbone | OnnxCaptioner | OnnxImageHead | OnnxTextEncoder | None


def is_exported(info: ModelInfo) -> bool:
    """Whether the exports of a model and of its backbone are in the cache, or can be written without torch."""
    if starter.is_bundled(info.path):
        return True
    found: list[_Export] = [find(OnnxBackbone, backbone_folder(info.meta), backbone_fingerprint(info.meta))]
    if info.kind == "captioner":
        found += [find(OnnxCaptioner, captioner_folder(info.fingerprint), info.fingerprint)]
    elif info.kind == "tagger":
        found += [find(OnnxImageHead, tagger_folder(info.fingerprint), info.fingerprint)]
    else:
        found += [find(OnnxImageHead, head_folder(info.fingerprint), info.fingerprint)]
        found += [text_encoders.find(info.fingerprint)]
    return all(export is not None and not export.folder.export_error for export in found)
