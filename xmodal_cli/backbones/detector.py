"""What detectors end in: regions of a picture as rows of features and ``regions.REGION_COLUMNS``.

Regions are chosen as in bottom-up attention (Anderson et al. 2018): each of 300 proposals becomes one box, of its
likeliest class but the background; boxes that overlap a better one by more than half fall away, whatever their class;
the 36 best stay. There is no least score: a picture in which nothing is found has regions of low scores, and the
column tells. A box that the classifier moved out of the picture is its proposal again. Fewer than 36 boxes are
followed by rows of zeros. Features are pooled afresh from the final boxes.
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
OVERLAP = 0.5  # intersection over union of two boxes that are taken for one


class DetectorBackbone:
    """An ``ImageBackbone`` around one of torchvision's Faster R-CNN."""

    def __init__(self, detector: Any, preprocessing: Preprocessing, meta: FeatureMeta, weights_file: Path) -> None:
        self.meta = meta
        self.weights_file: Path | None = weights_file
        self._detector = detector.eval()
        self._preprocessing = preprocessing
        self._device, self._dtype = torch.device("cpu"), torch.float32

    def preprocess(self, image: Image.Image) -> Tensor:
        return self._preprocessing.pixels(image)

    def to(self, device: str, dtype: torch.dtype) -> None:
        # boxes and their suppression need float32; the feature pyramid is nearly all of the work
        self._device, self._dtype = torch.device(device), dtype
        self._detector.to(self._device)
        self._detector.backbone.to(dtype).to(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> Tensor:
        """(pictures, 3, side, side) uint8 -> (pictures, 36, dim) float32.

        One by one: the last bits of a batch depend on its size, and another box could follow from them.
        """
        with torch.inference_mode():
            return torch.stack([self._regions(picture[None].to(self._device)) for picture in pixels])

    def _regions(self, picture: Tensor) -> Tensor:
        """(1, 3, side, side) uint8 -> (36, dim) float32."""
        maps = self._detector.backbone(self._preprocessing.normalize(picture, self._dtype))
        maps = OrderedDict((name, level.float()) for name, level in maps.items())
        heads = self._detector.roi_heads
        boxes, scores, classes = select_boxes(*self._candidates(picture, maps))
        features = _pooled(heads, maps, boxes, picture)
        side = picture.shape[-1]
        return region_rows(features, boxes / side, scores, classes)

    def _candidates(self, picture: Tensor, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (proposals, 4) in pixels, scores and classes (proposals,) of the likeliest class of each."""
        from torchvision.models.detection.image_list import ImageList
        from torchvision.ops import clip_boxes_to_image

        height, width = picture.shape[-2:]
        proposals, _ = self._detector.rpn(ImageList(picture, [(height, width)]), maps)
        heads = self._detector.roi_heads
        logits, shifts = heads.box_predictor(_pooled(heads, maps, proposals[0], picture))
        scores, classes = torch.softmax(logits, -1)[:, 1:].max(-1)
        classes = classes + 1  # 0 is the background
        decoded = heads.box_coder.decode(shifts, proposals)  # (proposals, classes, 4)
        boxes = decoded[torch.arange(len(classes), device=classes.device), classes]
        boxes = clip_boxes_to_image(boxes, (height, width))
        outside = (boxes[:, 2:] - boxes[:, :2] < 1).any(1, keepdim=True)
        return torch.where(outside, proposals[0], boxes), scores, classes


def _pooled(heads: Any, maps: dict[str, Tensor], boxes: Tensor, picture: Tensor) -> Tensor:
    """(boxes, 4) pixels -> (boxes, 1024) features of the box head."""
    height, width = picture.shape[-2:]
    pooled: Tensor = heads.box_head(heads.box_roi_pool(maps, [boxes], [(height, width)]))
    return pooled


def select_boxes(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At most 36 of them, best first, none overlapping a better one by more than ``OVERLAP``."""
    from torchvision.ops import nms

    kept = nms(boxes, scores, OVERLAP)[:NUM_REGIONS]
    return boxes[kept], scores[kept], classes[kept]


def region_rows(features: Tensor, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """(regions, dim), (regions, 4) shares, (regions,), (regions,) -> (36, dim + 7) float32, zeros after the regions."""
    first = boxes[:, :2].clamp(0, 1 - SMALLEST_SIDE)
    second = torch.maximum(boxes[:, 2:].clamp(0, 1), first + SMALLEST_SIDE)
    area = (second - first).prod(1)
    rows = torch.cat([features, first, second, torch.stack([area, scores, classes.float()], 1)], 1)
    return nn.functional.pad(rows, (0, 0, 0, NUM_REGIONS - len(rows)))


def assemble_detector(detector: Any, preprocessing: Preprocessing, name: str, weights_file: Path) -> DetectorBackbone:
    """Wrap ``detector``; pictures are normalised by ``preprocessing``, not by its own transform."""
    dim = detector.roi_heads.box_predictor.cls_score.in_features + len(REGION_COLUMNS)
    choice = {"regions": NUM_REGIONS, "proposals": NUM_PROPOSALS, "overlap": OVERLAP}
    meta = FeatureMeta(name, sha256_of(weights_file), "regions", dim, {**preprocessing.facts(), **choice})
    return DetectorBackbone(detector, preprocessing, meta, weights_file)
