"""Checks of a caption request from the headers of its models, before a model is loaded or a folder is listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmodal_cli.backbones.hugging_face_names import is_hugging_face_name
from xmodal_cli.captioning.attention_maps import MAPPED_VIEWS
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.caption_types import CaptionRequest, override_decoding
from xmodal_cli.inference.captioners import check_decoding_of, check_ensemble
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.models import ModelInfo, describe_as
from xmodal_cli.inference.reranking import check_reranker
from xmodal_cli.inference.runtime import require_torch
from xmodal_cli.inference.tag_requests import check_tags
from xmodal_cli.inference.weights import read_tokenizer
from xmodal_cli.types import Decoding

NO_MAPS = "omit --attention, or use a captioner trained on grid or region features: --set features.kind=grid"


@dataclass(frozen=True)
class HuggingFaceRequest:
    """The model ``hf/NAME``, or a folder, and the decoding settings."""

    name: str
    decoding: Decoding


def check_request(request: CaptionRequest) -> list[ModelInfo] | HuggingFaceRequest:
    """The captioners of ``request``, or the default one. Raises the errors of loading and using them that are known.

    These are MissingData, UnknownName, BadModel, ConfigError and IncompatibleFeatures.
    """
    request.compute.check()
    names = request.models or (default_model("captioner"),)
    if any(is_hugging_face_name(name) for name in names):
        return _check_hugging_face(names, request)
    hint = "`xmodal models list` shows the captioners; --nearest takes a matcher"
    infos = [describe_as("captioner", name, hint) for name in names]
    check_captioners(infos, request.settings, request.tags, request.compute)
    if request.attention is not None:
        check_attended(infos)
    return infos


def check_captioners(
    captioners: Sequence[ModelInfo], settings: Sequence[str], tags: Sequence[str], compute: Compute
) -> Decoding:
    """The decoding settings of the captioners, several as an ensemble, with ``settings`` as ``decoding.key=value``.

    Raises ConfigError for different vocabularies, and for settings that are invalid or need more memory than there is;
    and the errors of ``find_tag_source`` and ``check_reranker``.
    """
    check_ensemble(captioners)
    decoding = override_decoding(captioners[0].config.decoding, settings)
    check_decoding_of(captioners, decoding, compute)
    check_tags(tags, captioners[0], read_tokenizer(captioners[0]))
    check_reranker(decoding)
    return decoding


def check_attended(captioners: Sequence[ModelInfo]) -> None:
    """Raise ConfigError if what the captioners attend to has no maps: many crops, or regions of several detectors."""
    has_regions = any(info.meta.kind == "regions" for info in captioners)
    if has_regions and len({info.meta.key() for info in captioners}) > 1:
        raise ConfigError(
            f"{' + '.join(info.name for info in captioners)} attend to different parts of an image, so they have no "
            "common attention maps",
            "caption with one of them, or with captioners trained on the same regions",
        )
    for info in captioners:
        if info.meta.crops not in MAPPED_VIEWS:
            message = f"{info.name} does not attend to a grid of image cells, so it has no attention maps"
            raise ConfigError(message, NO_MAPS)


def _check_hugging_face(names: Sequence[str], request: CaptionRequest) -> HuggingFaceRequest:
    if len(names) > 1:
        raise ConfigError("a Hugging Face model cannot be part of an ensemble", "use one --model")
    for option, value in (("--tags", request.tags), ("--attention", request.attention)):
        if value:
            raise ConfigError(
                f"{option} is not supported for Hugging Face models", f"omit {option}, or use a trained captioner"
            )
    decoding = override_decoding(Decoding(), request.settings)
    require_torch(names[0])
    from xmodal_cli.inference import hf_captioner

    hf_captioner.generate_arguments(decoding)
    hf_captioner.check_name(names[0])
    return HuggingFaceRequest(names[0], decoding)
