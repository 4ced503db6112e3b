"""Detectors as backbones: the regions of an image as rows of features and ``regions.REGION_COLUMNS``.

Regions are selected as in the published features of bottom-up attention (Anderson et al. 2018, arXiv 1707.07998,
``generate_tsv.py``). Non-maximum suppression at an IoU of 0.3 removes proposals for each class on its own. The score of
a proposal is its highest class probability after that, without the background. Proposals with a score of at least 0.2
are regions, at least 10 and at most 36, by score. Boxes and features are those of the proposals: box regression is not
used. The remaining rows are zeros.

Differences from the paper: at most 36 regions instead of 100. The detectors are torchvision's Faster R-CNN with a
feature pyramid, trained on COCO boxes (91 class ids); the paper has a ResNet-101 trained on Visual Genome, with 1,600
classes and attributes. Features are the 1,024 outputs of the box head; the paper averages 2,048 channels of the last
convolution. Images are squashed to a square. IoU is without the pixel that the reference code adds to each side.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.regions import (
    MAX_OVERLAP,
    MIN_REGIONS,
    MIN_SCORE,
    NUM_REGIONS,
    REGION_COLUMNS,
    SELECTION,
    SMALLEST_SIDE,
)
from xmodal_cli.types import FeatureMeta

if TYPE_CHECKING:
    from PIL import Image

    from xmodal_cli.device import Compute


class DetectorBackbone:
    """An ``ImageBackbone`` around a Faster R-CNN of torchvision."""

    def __init__(self, detector: Any, preprocessing: Preprocessing, meta: FeatureMeta, weights_file: Path) -> None:
        self.meta = meta
        self.weights_file: Path | None = weights_file
        self._detector = detector.eval()
        self._preprocessing = preprocessing
        self._device, self._dtype = torch.device("cpu"), torch.float32

    def preprocess(self, image: Image.Image) -> Tensor:
        return self._preprocessing.pixels(image)

    def to(self, compute: Compute) -> None:
        # boxes and NMS need float32; most of the compute is in the feature pyramid
        self._device, self._dtype = torch.device(compute.device), compute.dtype
        self._detector.to(self._device)
        self._detector.backbone.to(self._dtype).to(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> Tensor:
        """(images, 3, side, side) uint8 -> (images, 36, dim) float32.

        One image at a time: rounding depends on the batch size, and could change the selected boxes.
        """
        with torch.inference_mode():
            return torch.stack([self._regions(image[None].to(self._device)) for image in pixels])

    def _regions(self, image: Tensor) -> Tensor:
        """(1, 3, side, side) uint8 -> (36, dim) float32."""
        maps = self._detector.backbone(self._preprocessing.normalize(image, self._dtype))
        maps = OrderedDict((name, level.float()) for name, level in maps.items())
        proposals, features, probabilities = self._classify(image, maps)
        positions, scores, classes = select_regions(proposals, probabilities)
        return build_region_rows(features[positions], proposals[positions] / image.shape[-1], scores, classes)

    def _classify(self, image: Tensor, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Proposals in pixels (n, 4), their features (n, dim), and probabilities (n, classes), background first."""
        from torchvision.models.detection.image_list import ImageList

        size = (image.shape[-2], image.shape[-1])
        proposals, _ = self._detector.rpn(ImageList(image, [size]), maps)
        heads = self._detector.roi_heads
        features = heads.box_head(heads.box_roi_pool(maps, proposals, [size]))
        logits, _ = heads.box_predictor(features)
        return proposals[0], features, torch.softmax(logits, -1)


def select_regions(boxes: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The regions among ``boxes`` (n, 4): their positions, scores and classes, (regions,) each, highest score first.

    ``probabilities`` is (n, classes), background first. Boxes of equal scores keep their order. A box that is removed
    in all classes has score 0 and class 0; it is a region only if there are fewer than ``MIN_REGIONS`` other ones.
    """
    from torchvision.ops import nms

    device, boxes, probabilities = boxes.device, boxes.cpu(), probabilities.cpu()  # many small steps: faster on the CPU
    remaining = torch.zeros_like(probabilities)
    for label in range(1, probabilities.shape[1]):
        keep = nms(boxes, probabilities[:, label], MAX_OVERLAP)
        remaining[keep, label] = probabilities[keep, label]
    scores, classes = remaining.max(1)
    count = min(max(int((scores >= MIN_SCORE).sum()), MIN_REGIONS), NUM_REGIONS)
    positions = scores.argsort(descending=True, stable=True)[:count]
    return positions.to(device), scores[positions].to(device), classes[positions].to(device)


def build_region_rows(features: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """(regions, dim), (regions, 4) in [0, 1], (regions,), (regions,) -> (36, dim + 7) float32, zero-padded."""
    top_left = boxes[:, :2].clamp(0, 1 - SMALLEST_SIDE)
    bottom_right = torch.maximum(boxes[:, 2:].clamp(0, 1), top_left + SMALLEST_SIDE)
    area = (bottom_right - top_left).prod(1)
    rows = torch.cat([features, top_left, bottom_right, torch.stack([area, scores, classes.float()], 1)], 1)
    return nn.functional.pad(rows, (0, 0, 0, NUM_REGIONS - len(rows)))


def assemble_detector(detector: Any, preprocessing: Preprocessing, name: str, weights_file: Path) -> DetectorBackbone:
    """Wrap ``detector``; images are normalized by ``preprocessing``, not by the transform of the detector."""
    dim = detector.roi_heads.box_predictor.cls_score.in_features + len(REGION_COLUMNS)
    meta = FeatureMeta(name, sha256_of(weights_file), "regions", dim, {**preprocessing.facts(), **SELECTION})
    return DetectorBackbone(detector, preprocessing, meta, weights_file)
