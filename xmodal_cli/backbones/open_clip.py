"""The image towers of open_clip, as ``open_clip/ARCH/TAG`` (``open_clip/ViT-B-32/laion2b_s34b_b79k``).

``global`` is the vector that CLIP compares with texts, before normalisation; ``grid`` the patch
tokens of a vision transformer after its last norm, before projection. Weights come from the hub that
open_clip names for the tag, or from a local checkpoint: ``open_clip/ARCH@FILE``, or
``open_clip/ARCH/TAG@FILE`` where the tag decides activation, mean and deviation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "open_clip/"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def known() -> list[str]:
    """The pattern of the names of this family."""
    return ["open_clip/ARCH/TAG"]


def claims(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name.startswith(PREFIX)


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The image tower with the weights of ``weights``, or with those that open_clip names for the tag."""
    from xmodal_cli.backbones._network import assemble
    from xmodal_cli.backbones._preprocess import Preprocessing

    arch, _, tag = name.removeprefix(PREFIX).partition("/")
    config = _pretrained(arch, tag, weights)
    file = weights or _published_file(name, config)
    visual = _tower(arch, file, config)
    facts: dict[str, Any] = visual.preprocess_cfg
    size = facts["size"] if isinstance(facts["size"], int) else facts["size"][0]
    mean, std = (config.get(key) or facts[key] for key in ("mean", "std"))
    network = _grid(visual, name) if kind == "grid" else visual
    return assemble(network, Preprocessing(size, tuple(mean), tuple(std), crops), name, kind, file)


def _pretrained(arch: str, tag: str, weights: Path | None) -> dict[str, Any]:
    """open_clip's record of the tag; empty for local weights without one. Raises UnknownName."""
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
    from xmodal_cli.backbones._weights import hugging_face_file, torch_hub_file

    repo, file = str(config.get("hf_hub", "")).rpartition("/")[::2]
    if repo:
        return hugging_face_file(repo, (file,) if file else FILES, name)
    return torch_hub_file(str(config["url"]))


def _tower(arch: str, file: Path, config: dict[str, Any]) -> Any:
    import open_clip

    from xmodal_cli.backbones._weights import weights_errors

    quick = bool(config.get("quick_gelu", False))
    with weights_errors(file):
        model = open_clip.create_model(arch, pretrained=str(file), force_quick_gelu=quick, pretrained_text=False)
    return model.visual


def _grid(visual: Any, name: str) -> nn.Module:
    from open_clip.transformer import VisionTransformer
    from torch import nn

    if not isinstance(visual, VisionTransformer):
        raise ConfigError(f"{name} has no patch tokens to make a grid of", "use --kind global, or a ViT")

    class Grid(nn.Module):
        """(pictures, 3, height, width) -> (pictures, patches, width of the transformer)."""

        def __init__(self) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, pixels: Tensor) -> Tensor:
            found = visual.forward_intermediates(
                pixels, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC"
            )
            tokens: Tensor = found["image_intermediates"][-1]
            return tokens

    return Grid()
