"""Detectors as backbones: the regions of an image as rows of features and ``regions.REGION_COLUMNS``.

Regions are selected as in bottom-up attention (Anderson et al. 2018): each of 300 proposals gets one box, that of its
most probable foreground class; class-agnostic non-maximum suppression at an IoU of 0.5; the top 36 are keep. There is
no score threshold: an image without objects gets regions with low scores. A box that regression moved out of the image
is replaced by its proposal. Fewer than 36 boxes are padded with rows of zeros. Features are pooled from the final
boxes.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.regions import NUM_REGIONS, REGION_COLUMNS, SMALLEST_SIDE
from xmodal_cli.types import FeatureMeta

if TYPE_CHECKING:
    from PIL import Image


NUM_PROPOSALS = 300
OVERLAP = 0.5  # IoU threshold of non-maximum suppression


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

    def to(self, device: str, dtype: torch.dtype) -> None:
        # boxes and NMS need float32; most of the compute is in the feature pyramid
        self._device, self._dtype = torch.device(device), dtype
        self._detector.to(self._device)
        self._detector.backbone.to(dtype).to(memory_format=torch.channels_last)

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
        heads = self._detector.roi_heads
        boxes, scores, classes = select_boxes(*self._candidates(image, maps))
        features = _pool_boxes(heads, maps, boxes, image)
        side = image.shape[-1]
        return build_region_rows(features, boxes / side, scores, classes)

    def _candidates(self, image: Tensor, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (proposals, 4) in pixels, scores and classes (proposals,) of the most probable class of each."""
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import clip_boxes_to_image

        height, width = image.shape[-2:]
        proposals, _ = self._detector.rpn(ImageList(image, [(height, width)]), maps)
        heads = self._detector.roi_heads
        logits, box_deltas = heads.box_predictor(_pool_boxes(heads, maps, proposals[0], image))
        scores, classes = torch.softmax(logits, -1)[:, 1:].max(-1)
        classes = classes + 1  # 0 is the background
        decoded = heads.box_coder.decode(box_deltas, proposals)  # (proposals, classes, 4)
        boxes = decoded[torch.arange(len(classes), device=classes.device), classes]
        boxes = clip_boxes_to_image(boxes, (height, width))
        outside = (boxes[:, 2:] - boxes[:, :2] < 1).any(1, keepdim=True)
        return torch.where(outside, proposals[0], boxes), scores, classes


def _pool_boxes(heads: Any, maps: dict[str, Tensor], boxes: Tensor, image: Tensor) -> Tensor:
    """(boxes, 4) pixels -> (boxes, 1024) features of the box head."""
    height, width = image.shape[-2:]
    pooled: Tensor = heads.box_head(heads.box_roi_pool(maps, [boxes], [(height, width)]))
    return pooled


def select_boxes(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The top 36 boxes after non-maximum suppression, highest score first."""
    from torchvision.ops import nms

    keep = nms(boxes, scores, OVERLAP)[:NUM_REGIONS]
    return boxes[keep], scores[keep], classes[keep]


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
    selection = {"regions": NUM_REGIONS, "proposals": NUM_PROPOSALS, "overlap": OVERLAP}
    meta = FeatureMeta(name, sha256_of(weights_file), "regions", dim, {**preprocessing.facts(), **selection})
    return DetectorBackbone(detector, preprocessing, meta, weights_file)
