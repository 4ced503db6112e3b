"""Image backbones on torch, as models read them."""

from __future__ import annotations

from xmodal_cli.backbones import image_backbones
from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.types import PRECOMPUTED, FeatureMeta, ImageBackbone


def backbone_of(model: str, meta: FeatureMeta) -> ImageBackbone:
    """The backbone of the features in ``meta``. Raises IncompatibleFeatures, and like ``build_backbone``."""
    check_images_readable(model, meta)
    backbone = image_backbones.build_backbone(meta.backbone, meta.kind, meta.crops)
    if backbone.meta.key() != meta.key():
        raise image_backbones.other_features_error(model, meta, backbone.meta)
    return backbone


def check_images_readable(model: str, meta: FeatureMeta) -> None:
    """Raise IncompatibleFeatures if ``meta`` has features that cannot be computed from images."""
    if meta.backbone == PRECOMPUTED:
        raise IncompatibleFeatures(
            f"{model} was trained on precomputed features of an unknown backbone; they cannot be extracted from images",
            "train it again and name their backbone: --features-from BACKBONE",
        )
    if image_backbones.is_from_files(meta.backbone):
        raise IncompatibleFeatures(
            f"{model} was trained on regions of an external detector; they cannot be extracted from new images",
            "train a model with an available detector: --backbone faster-rcnn-resnet50 --set features.kind=regions",
        )
