"""Builds image backbones by name. No heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from xmodal_cli import catalog
from xmodal_cli.backbones.finetuned_tower import TunedTower, load_tuned_tower, read_tuned_tower
from xmodal_cli.backbones.names import find_weights, kind_option, split_name
from xmodal_cli.errors import ConfigError, IncompatibleFeatures, UnknownName
from xmodal_cli.types import FeatureMeta, ImageBackbone

if TYPE_CHECKING:
    from torch import nn

    from xmodal_cli.backbones.network import NetworkBackbone


KINDS = ("global", "grid", "regions")
PIXELS = "pixels"  # kind of the images themselves, for models that contain the whole backbone
TRUNK = "trunk-"  # kind `trunk-N`: the feature map before the last N blocks, for fine-tuning those
CROPS = (1, 2, 10)
FROZEN_HINT = "set optimizer.image_tower_lr_scale to 0 to use its features, or use another backbone"


def known() -> list[str]:
    """All names that ``build_backbone`` accepts; parts in capitals are placeholders."""
    return [name for family in _families() for name in family.known()]


def check_request(name: str, kind: str = "global", crops: int = 1) -> None:
    """Check name, kind and number of crops without building: raises the same errors as ``build_backbone``."""
    family = _family(name)
    if kind == PIXELS:
        return _check_pixels(crops)
    if kind.startswith(TRUNK):
        return _check_trunk(name, family, kind, crops)
    if kind not in KINDS:
        raise UnknownName.of("kind of features", kind, KINDS)
    kinds = getattr(family, "KINDS", ("global", "grid"))
    if kind not in kinds:
        raise ConfigError(
            f"{split_name(name)[0]} has {' and '.join(kinds)} features, not {kind}", _kind_hint(kind, kinds)
        )
    if crops not in CROPS:
        hint = "2 averages the image and its mirror image, 10 the corners, the center and their mirror images"
        raise ConfigError(f"crops must be 1, 2 or 10, not {crops}", hint)
    if crops > 1 and kind != "global":
        raise ConfigError(
            f"the cells of several crops cannot be averaged into one {kind}",
            "use --crops 1 (in training --set features.crops=1)",
        )


def is_from_files(name: str) -> bool:
    """Whether the features of the backbone called ``name`` are read from files rather than computed by a network."""
    return any(family.supports(split_name(name)[0]) for family in _families() if getattr(family, "FROM_FILES", False))


def known_facts(name: str) -> Mapping[str, Any]:
    """The entries of ``FeatureMeta.preprocessing`` of the backbone called ``name`` that are known without building."""
    facts: Mapping[str, Any] = getattr(_family(name), "FACTS", {})
    return facts


def build_backbone(name: str, kind: str = "global", crops: int = 1) -> ImageBackbone:
    """The backbone called ``name``, on the CPU in float32; ``NAME@FILE`` loads its weights from a local file.

    FILE is a path, or else a file in the models folder of XMODAL_HOME, so that a model trained on such features can be
    used on another machine. If it is an xmodal model (``NAME@RUN``), the weights are those that it fine-tuned.

    Raises UnknownName with a suggestion, ConfigError, MissingData, BadData, DownloadError.
    """
    check_request(name, kind, crops)
    if kind == PIXELS:
        from xmodal_cli.backbones.network import PixelBackbone

        return PixelBackbone(build_backbone(name, "global", crops))
    base, file = split_name(name)
    family, weights = _family(name), find_weights(file) if file else None
    backbone: ImageBackbone
    if hasattr(family, "MAX_TUNED_BLOCKS"):
        backbone = family.build(base, kind, crops, weights)
    elif kind.startswith(TRUNK):
        backbone = _build_trunk(name, kind, crops)
    elif weights is not None and (tower := read_tuned_tower(weights, name)) is not None:
        backbone = _build_tuned(tower, kind, crops)
    else:
        backbone = family.build(base, kind, crops, weights)
    backbone.meta = replace(backbone.meta, backbone=name)
    return backbone


def _build_tuned(tower: TunedTower, kind: str, crops: int) -> ImageBackbone:
    """The backbone with the weights that a model fine-tuned. Raises BadData if it has no network of this kind."""
    from xmodal_cli.backbones.network import assemble

    whole = _build_trainable(tower.backbone, kind, crops)
    load_tuned_tower(whole.tower.network, tower, kind)
    return assemble(whole.tower.network, whole.preprocessing, tower.backbone, kind, tower.file)


def other_features_error(model: str, meta: FeatureMeta, found: FeatureMeta) -> IncompatibleFeatures:
    """The error for features ``found`` of the same backbone that differ from those that ``model`` was trained on."""
    if meta.fingerprint == found.fingerprint:
        return IncompatibleFeatures(
            f"{meta.backbone} has other preprocessing here than when {model} was trained", "train the model again"
        )
    return IncompatibleFeatures(
        f"{meta.backbone} has other weights or preprocessing here than when {model} was trained",
        f"use the weights with sha256 {meta.fingerprint[:16]}..., or train the model again",
    )


def build_network(name: str, kind: str = "global") -> tuple[nn.Module, FeatureMeta]:
    """The network of ``build_backbone`` for training: uint8 pixels (n, 3, side, side) -> features, with gradients.

    In evaluation mode, on the CPU, in float32; ``FeatureMeta.preprocessing["side"]`` is the input side.
    Raises the errors of ``build_backbone``, and ConfigError for a family that cannot be trained.
    """
    backbone = _build_trainable(name, kind)
    return backbone.tower, backbone.meta


def build_upper(name: str, kind: str, num_blocks: int) -> tuple[nn.Module, FeatureMeta]:
    """The last ``num_blocks`` blocks of a backbone, for training: features of kind ``trunk-N`` -> those of ``kind``.

    Raises the errors of ``build_backbone``, and ConfigError for a network that cannot be split there.
    """
    check_request(name, f"{TRUNK}{num_blocks}")
    family, file = _family(name), split_name(name)[1]
    if not hasattr(family, "MAX_TUNED_BLOCKS"):
        return _build_last_blocks(name, kind, num_blocks)
    network, meta = family.build_upper(kind, num_blocks, find_weights(file) if file else None)
    return network, replace(meta, backbone=name)


def _build_trunk(name: str, kind: str, crops: int) -> ImageBackbone:
    """The trunk of a family that does not split its network itself."""
    from xmodal_cli.backbones.network import assemble
    from xmodal_cli.backbones.splitting import Trunk

    whole = _build_trainable(name, "global", crops)
    assert whole.weights_file is not None
    trunk = Trunk(whole.tower.network, int(kind.removeprefix(TRUNK)), split_name(name)[0])
    return assemble(trunk, whole.preprocessing, name, kind, whole.weights_file)


def _build_last_blocks(name: str, kind: str, num_blocks: int) -> tuple[nn.Module, FeatureMeta]:
    from xmodal_cli.backbones.splitting import LastBlocks

    whole = _build_trainable(name, kind)
    size = whole.preprocessing.size
    return LastBlocks(whole.tower.network, num_blocks, kind, size, split_name(name)[0]), whole.meta


def _build_trainable(name: str, kind: str, crops: int = 1) -> NetworkBackbone:
    """``build_backbone`` for a backbone with gradients. Raises ConfigError for other ones."""
    from xmodal_cli.backbones.network import NetworkBackbone

    backbone = build_backbone(name, kind, crops)
    if not isinstance(backbone, NetworkBackbone):
        raise ConfigError(f"{split_name(name)[0]} cannot be fine-tuned", FROZEN_HINT)
    return backbone


def _check_pixels(crops: int) -> None:
    """Raise ConfigError for more than one crop: augmentation creates other views."""
    if crops != 1:
        hint = "set crops to 1, or train only the last blocks with features.tuned_blocks"
        raise ConfigError(f"pixels need crops=1, not {crops}", hint)


def _check_trunk(name: str, family: ModuleType, kind: str, crops: int) -> None:
    """Raise ConfigError for a family that is not a trainable network, or an invalid number of blocks."""
    blocks, max_blocks = kind.removeprefix(TRUNK), getattr(family, "MAX_TUNED_BLOCKS", None)
    if "global" not in getattr(family, "KINDS", ("global",)):
        raise ConfigError(f"{split_name(name)[0]} cannot be fine-tuned", FROZEN_HINT)
    if not (blocks.isdigit() and 1 <= int(blocks) <= (max_blocks or int(blocks))):
        hint = f"use 1 to {max_blocks} blocks" if max_blocks else "use at least 1 block"
        raise ConfigError(f"cannot fine-tune {blocks} blocks of {split_name(name)[0]}", hint)
    if crops not in CROPS[:2]:
        raise ConfigError(f"features.tuned_blocks needs crops=1 or crops=2, not {crops}", "set crops to 1 or 2")


def _kind_hint(kind: str, kinds: tuple[str, ...]) -> str:
    if kind == "regions":
        return "use a detector (--backbone faster-rcnn-resnet50) or region files (--backbone bottom-up@PATH)"
    return f"use {kind_option(kinds[0])}, or use another backbone"


def _family(name: str) -> ModuleType:
    base, _ = split_name(name)
    for family in _families():
        if family.supports(base):
            return family
    raise UnknownName.of("backbone", base, known())


def _families() -> list[ModuleType]:
    return [catalog.load("image_backbone", name) for name in catalog.names("image_backbone")]
