"""The towers of open_clip models: ``open_clip/ARCH/TAG`` (``open_clip/ViT-B-32/laion2b_s34b_b79k``).

``global`` is the image embedding of CLIP before normalization; ``grid`` the patch tokens of a vision transformer after
its last norm, before projection. Weights are downloaded from the hub of the tag, or loaded from a local checkpoint:
``open_clip/ARCH@FILE``, or ``open_clip/ARCH/TAG@FILE`` to use the activation, mean and standard deviation of the tag.
``text_tower`` is the text encoder of the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.backbones.names import find_weights, kind_option, split_name
from xmodal_cli.errors import ConfigError, DownloadError, UnknownName
from xmodal_cli.types import FeatureMeta, ImageBackbone

if TYPE_CHECKING:
    from torch import Tensor, nn

    from xmodal_cli.backbones.preprocessing import Preprocessing


PREFIX = "open_clip/"
CLIP_VOCAB_SIZE = 49408
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def known() -> list[str]:
    """The pattern of the names of this family."""
    return ["open_clip/ARCH/TAG"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name.startswith(PREFIX)


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The image tower with the weights in ``weights``, or the published weights of the tag."""
    from xmodal_cli.backbones.network import assemble

    arch, config, file = _source(name, weights)
    visual = _model(arch, file, config).visual
    network = _grid(visual, name) if kind == "grid" else visual
    return assemble(network, _preprocessing(arch, config, crops), name, kind, file)


def text_tower(name: str) -> tuple[nn.Module, str]:
    """(tokens (n, longest) int64, lengths (n,)) -> (n, dim) as ``encode_text``, and the JSON of its tokenizer.

    In evaluation mode, on the CPU, in float32; ``name`` may end in ``@FILE``. Raises the errors of ``build_backbone``.
    """
    from xmodal_cli.backbones.clip_text import TextTower
    from xmodal_cli.backbones.clip_tokenizer import build_tokenizer

    base, file_name = split_name(name)
    arch, config, file = _source(base, find_weights(file_name) if file_name else None)
    tokenizer = build_tokenizer(_settings(arch)["text_cfg"], name)
    tower = TextTower(_model(arch, file, config), tokenizer.context_length, tokenizer.pad_id)
    return tower.eval(), tokenizer.json


def read_matcher_meta(name: str) -> tuple[FeatureMeta, Path]:
    """``build_backbone(name).meta`` and the weights file, without building the network."""
    from xmodal_cli.backbones.weights import cached_fingerprint

    base, file_name = split_name(name)
    arch, config, file = _source(base, find_weights(file_name) if file_name else None)
    facts = _preprocessing(arch, config, 1).facts()
    return FeatureMeta(name, cached_fingerprint(file), "global", int(_settings(arch)["embed_dim"]), facts), file


def vocab_size(name: str) -> int:
    """Vocabulary size of the text tower."""
    arch = split_name(name)[0].removeprefix(PREFIX).partition("/")[0]
    return int(_settings(arch)["text_cfg"].get("vocab_size", CLIP_VOCAB_SIZE))


def _source(name: str, weights: Path | None) -> tuple[str, dict[str, Any], Path]:
    """The architecture, the open_clip configuration of the tag, and the weights file; ``name`` is without ``@FILE``."""
    arch, _, tag = name.removeprefix(PREFIX).partition("/")
    config = _pretrained(arch, tag, weights)
    return arch, config, weights or _published_file(name, config)


def _settings(arch: str) -> dict[str, Any]:
    """The open_clip configuration of an architecture: ``embed_dim``, ``vision_cfg``, ``text_cfg``."""
    import open_clip

    return dict(open_clip.get_model_config(arch))


def _preprocessing(arch: str, config: dict[str, Any], crops: int) -> Preprocessing:
    import open_clip

    from xmodal_cli.backbones.preprocessing import Preprocessing

    size = _settings(arch)["vision_cfg"].get("image_size", 224)
    mean, std = config.get("mean") or open_clip.OPENAI_DATASET_MEAN, config.get("std") or open_clip.OPENAI_DATASET_STD
    return Preprocessing(size if isinstance(size, int) else size[0], tuple(mean), tuple(std), crops)


def _pretrained(arch: str, tag: str, weights: Path | None) -> dict[str, Any]:
    """The open_clip configuration of the tag; empty for local weights without a tag. Raises UnknownName."""
    import open_clip

    if arch not in open_clip.list_models():
        raise UnknownName.of("open_clip architecture", arch, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tag and weights is not None:
        return {}
    if tag not in tags:
        raise UnknownName.of(f"tag of open_clip/{arch}", tag, tags)
    return dict(open_clip.get_pretrained_cfg(arch, tag))


def _published_file(name: str, config: dict[str, Any]) -> Path:
    from xmodal_cli.backbones.weights import hugging_face_file, torch_hub_file

    repo, file = str(config.get("hf_hub", "")).rpartition("/")[::2]
    if repo:
        return hugging_face_file(repo, (file,) if file else FILES, name)
    return torch_hub_file(str(config["url"]))


def _model(arch: str, file: Path, config: dict[str, Any]) -> Any:
    """Both towers, ``visual`` and ``text``, with the weights of ``file``, in evaluation mode."""
    import open_clip

    from xmodal_cli.backbones.weights import weights_errors

    quick = bool(config.get("quick_gelu", False))
    try:
        with weights_errors(file):
            model = open_clip.create_model(arch, pretrained=str(file), force_quick_gelu=quick, force_custom_text=True)
    except OSError as error:  # from transformers, for a configuration that cannot be downloaded
        repo = _settings(arch)["text_cfg"].get("hf_model_name")
        if repo is None:
            raise
        hint = f"put config.json of {repo} into the Hugging Face cache"
        raise DownloadError(f"the text tower of {arch} needs {repo}: {str(error)[:200]}", hint) from error
    return model.eval()


def _grid(visual: Any, name: str) -> nn.Module:
    from open_clip.transformer import VisionTransformer
    from torch import nn

    if not isinstance(visual, VisionTransformer):
        raise ConfigError(f"{name} has no patch tokens for --kind grid", f"use {kind_option('global')}, or a ViT")

    class Grid(nn.Module):
        """(images, 3, height, width) -> (images, patches, transformer width)."""

        def __init__(self) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, pixels: Tensor) -> Tensor:
            outputs = visual.forward_intermediates(
                pixels, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
            )
            tokens: Tensor = outputs["image_intermediates"][-1]
            return tokens

    return Grid()
