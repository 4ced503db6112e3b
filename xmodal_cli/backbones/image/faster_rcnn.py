"""Faster R-CNN with torchvision's COCO weights: 10 to 36 regions per image, each with 1,024 box features.

Ren et al. 2015 with feature pyramids (Lin et al. 2017). ``faster-rcnn-resnet50``, its more accurate successor
``faster-rcnn-resnet50-v2``, and ``faster-rcnn-mobilenet`` (MobileNetV3-Large, several times faster). Images are
resized to 640 x 640. Classes are the 91 ids of COCO, or those of the weights of ``NAME@FILE``. See
``backbones.detector`` for the selection of regions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.file_identity import sha256_of
from xmodal_cli.regions import NUM_PROPOSALS, SELECTION
from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import Tensor, nn


KINDS = ("regions",)
FACTS = SELECTION
SIDE = 640  # a multiple of 32, so that no image is padded
NETWORKS = {
    "faster-rcnn-resnet50": "fasterrcnn_resnet50_fpn",
    "faster-rcnn-resnet50-v2": "fasterrcnn_resnet50_fpn_v2",
    "faster-rcnn-mobilenet": "fasterrcnn_mobilenet_v3_large_fpn",
}
CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"
WITHOUT_EPSILON = "258fb6c6"  # torchvision's ResNet-50 weights were trained with batch norms of eps 0


def known() -> list[str]:
    """The names of this family."""
    return list(NETWORKS)


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name in NETWORKS


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """The detector with the weights in ``weights``, or those of torchvision from the torch hub cache."""
    from torchvision import models

    from xmodal_cli.backbones.detector import assemble_detector
    from xmodal_cli.backbones.preprocessing import Preprocessing
    from xmodal_cli.backbones.weights import torch_hub_file

    file = weights or torch_hub_file(models.get_model_weights(NETWORKS[name]).COCO_V1.url)
    return assemble_detector(_network(name, file), Preprocessing(SIDE), name, file)


def _network(name: str, file: Path) -> nn.Module:
    from torch import nn
    from torchvision import models

    from xmodal_cli.backbones.weights import read_weights, weights_errors

    tensors = read_weights(file)
    with weights_errors(file):
        network: Any = models.get_model(
            NETWORKS[name],
            weights=None,
            weights_backbone=None,
            num_classes=_num_classes(tensors),
            rpn_score_thresh=0.0,  # images without objects get regions too
            rpn_post_nms_top_n_test=NUM_PROPOSALS,
        )
        network.load_state_dict(tensors)
    if sha256_of(file).startswith(WITHOUT_EPSILON):
        for module in network.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    detector: nn.Module = network
    return detector


def _num_classes(tensors: dict[str, Tensor]) -> int:
    """Number of classes, including the background. Raises ValueError."""
    if CLASSIFIER not in tensors:
        raise ValueError(f"{CLASSIFIER} is missing")
    return len(tensors[CLASSIFIER])
