"""VGG-16 and VGG-19 with torchvision's ImageNet weights, as in early image-text papers.

Simonyan and Zisserman 2014. ``global`` is fc7 after its ReLU, (4096,); ``grid`` is the last
convolution after its ReLU and before pooling (conv5_3, conv5_4), (196, 512): 14 x 14 cells.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import nn


def known() -> list[str]:
    """The names of this family."""
    return ["vgg16", "vgg19"]


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
    network = load_weights(models.get_model(name, weights=None, init_weights=False), file)
    return assemble(_backbone(network, kind), Preprocessing(224, crops=crops), name, kind, file)


def _backbone(network: Any, kind: str) -> nn.Module:
    from torch import nn

    from xmodal_cli.backbones.network import Cells

    if kind == "grid":
        return nn.Sequential(*list(network.features)[:-1], Cells())
    return nn.Sequential(network.features, network.avgpool, nn.Flatten(), *list(network.classifier)[:5])
