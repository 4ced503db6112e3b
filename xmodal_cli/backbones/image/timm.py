"""Any image model of timm: ``timm/NAME`` (``timm/vit_small_patch16_224.augreg_in21k``).

``global`` is the input of the classifier; ``grid`` the last feature map or the patch tokens, without class and
register tokens. Mean, standard deviation and size are those of the model configuration. Weights are those of the
Hugging Face hub or of ``timm/NAME@FILE``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import UnknownName
from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import Tensor, nn


PREFIX = "timm/"
FILES = ("model.safetensors", "pytorch_model.bin")


def known() -> list[str]:
    """The pattern of the names of this family."""
    return ["timm/NAME"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name.startswith(PREFIX)


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The model with the weights in ``weights``, or those of timm from the Hugging Face hub."""
    import timm

    from xmodal_cli.backbones.network import assemble
    from xmodal_cli.backbones.preprocessing import Preprocessing

    arch = name.removeprefix(PREFIX)
    if not timm.is_model(arch):
        raise UnknownName.of("timm model", arch, timm.list_models() + timm.list_pretrained())
    model, file = _local(arch, weights) if weights else _published(arch, name)
    config = timm.data.resolve_model_data_config(model)
    preprocessing = Preprocessing(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]), crops)
    return assemble(_grid(model) if kind == "grid" else model, preprocessing, name, kind, file)


def _local(arch: str, file: Path) -> tuple[Any, Path]:
    import timm

    from xmodal_cli.backbones.weights import load_weights

    # not with timm, which leaves missing weights random for some architectures
    return load_weights(timm.create_model(arch, num_classes=0), file, allow_extra=True), file


def _published(arch: str, name: str) -> tuple[Any, Path]:
    import timm

    from xmodal_cli.backbones.weights import hugging_face_file, weights_errors

    config = timm.models.get_pretrained_cfg(arch, allow_unregistered=True)
    file = hugging_face_file(config.hf_hub_id or f"timm/{arch}", FILES, name)
    with weights_errors(file):
        overlay = {"file": str(file)}
        return timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0), file


def _grid(model: Any) -> nn.Module:
    from torch import nn

    class Grid(nn.Module):
        """(images, 3, height, width) -> (images, cells, dim)."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Tensor) -> Tensor:
            features: Tensor = model.forward_features(pixels)
            if features.ndim == 3:  # tokens
                return features[:, getattr(model, "num_prefix_tokens", 0) :]
            if getattr(model, "output_fmt", "NCHW") == "NHWC":
                return features.flatten(1, 2)
            return features.flatten(2).transpose(1, 2)

    return Grid()
