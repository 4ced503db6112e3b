"""ResNet-50, -101 and -152 with torchvision's ImageNet weights V1, which published models use.

He et al. 2015. ``global`` is the mean of the last feature map, (2048,); ``grid`` is that map, (49, 2048).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import nn


def known() -> list[str]:
    """The names of this family."""
    return ["resnet50", "resnet101", "resnet152"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name in known()


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The network with the weights in ``weights``, or those of torchvision from the torch hub cache."""
    from torchvision import models

    from xmodal_cli.backbones.network import assemble
    from xmodal_cli.backbones.preprocessing import Preprocessing
    from xmodal_cli.backbones.weights import load_weights, torch_hub_file

    file = weights or torch_hub_file(models.get_model_weights(name).IMAGENET1K_V1.url)
    network = load_weights(models.get_model(name, weights=None), file)
    return assemble(_backbone(network, kind), Preprocessing(224, crops=crops), name, kind, file)


def _backbone(network: nn.Module, kind: str) -> nn.Module:
    from torch import nn

    from xmodal_cli.backbones.batch_norm_folding import fold_batch_norms
    from xmodal_cli.backbones.network import build_head

    layers = list(fold_batch_norms(network).children())[:-2]  # drop pooling and classifier
    return nn.Sequential(*layers, build_head(kind))
