"""From a backbone's name to the network: the one door to this folder. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

from xmodal_cli import catalog
from xmodal_cli.backbones.names import find_weights, split_name
from xmodal_cli.errors import ConfigError, UnknownName
from xmodal_cli.types import FeatureMeta, ImageBackbone

if TYPE_CHECKING:
    from torch import nn


KINDS = ("global", "grid", "regions")
PIXELS = "pixels"  # the kind of pictures themselves, for a model that has the whole backbone inside
TRUNK = "trunk-"  # kind `trunk-N`: the cells before the last N blocks, which a training goes on from
CROPS = (1, 2, 10)


def known() -> list[str]:
    """Every name that ``build_backbone`` answers to; capitals stand for what the user fills in."""
    return [name for family in _families() for name in family.known()]


def check_request(name: str, kind: str = "global", crops: int = 1) -> None:
    """Raise what ``build_backbone`` would raise for a wrong name, kind or number of crops, without building."""
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
            f"{split_name(name)[0]} makes {' and '.join(kinds)} features, not {kind}", _other_kind(kind, kinds)
        )
    if crops not in CROPS:
        hint = "2 averages the picture and its mirror image, 10 the corners, the centre and their mirrors"
        raise ConfigError(f"crops is 1, 2 or 10, not {crops}", hint)
    if crops > 1 and kind != "global":
        raise ConfigError(
            f"the cells of several crops cannot be averaged into one {kind}", f"use --crops 1 with --kind {kind}"
        )


def is_from_files(name: str) -> bool:
    """Whether the features of the backbone called ``name`` are read from files rather than computed by a network."""
    return any(family.supports(split_name(name)[0]) for family in _families() if getattr(family, "FROM_FILES", False))


def build_backbone(name: str, kind: str = "global", crops: int = 1) -> ImageBackbone:
    """The network called ``name``, on the CPU in float32; ``NAME@FILE`` takes its weights from a local file.

    FILE is looked up as given, then in the models folder of XMODAL_HOME, so that a model trained on
    such features can be used on another machine. Raises UnknownName (with the nearest name),
    ConfigError, MissingData, BadData, DownloadError.
    """
    check_request(name, kind, crops)
    if kind == PIXELS:
        from xmodal_cli.backbones.network import PixelBackbone

        return PixelBackbone(build_backbone(name, "global", crops))
    base, file = split_name(name)
    backbone: ImageBackbone = _family(name).build(base, kind, crops, find_weights(file) if file else None)
    backbone.meta = replace(backbone.meta, backbone=name)
    return backbone


def build_network(name: str, kind: str = "global") -> tuple[nn.Module, FeatureMeta]:
    """The network of ``build_backbone`` for training: uint8 pixels (n, 3, side, side) -> features, with gradients.

    In evaluation mode, on the CPU, in float32; ``FeatureMeta.preprocessing["side"]`` is the side it wants. Raises
    what ``build_backbone`` raises, and ConfigError for a family that is no single network.
    """
    from xmodal_cli.backbones.network import NetworkBackbone

    backbone = build_backbone(name, kind)
    if not isinstance(backbone, NetworkBackbone):
        raise ConfigError(f"{name} cannot be trained from pixels", "use its features, or another backbone")
    return backbone.tower, backbone.meta


def build_upper(name: str, kind: str, num_blocks: int) -> tuple[nn.Module, FeatureMeta]:
    """The last ``num_blocks`` blocks of a backbone, for training: features of kind ``trunk-N`` -> those of ``kind``.

    Raises what ``build_backbone`` raises.
    """
    check_request(name, f"{TRUNK}{num_blocks}")
    file = split_name(name)[1]
    network, meta = _family(name).build_upper(kind, num_blocks, find_weights(file) if file else None)
    return network, replace(meta, backbone=name)


def _check_pixels(crops: int) -> None:
    """Raise ConfigError: augmentation makes the other views."""
    if crops != 1:
        hint = "set crops to 1, or train the last blocks alone with features.tuned_blocks"
        raise ConfigError(f"pixels are trained on one view of a picture, not {crops}", hint)


def _check_trunk(name: str, family: ModuleType, kind: str, crops: int) -> None:
    """Raise ConfigError for a family without blocks, or for a number of them that it does not have."""
    blocks, most = kind.removeprefix(TRUNK), getattr(family, "MAX_TUNED_BLOCKS", 0)
    if not most:
        hint = "train it from pixels with features.tuned_blocks = 0, or choose efficientnet-lite2"
        raise ConfigError(f"{split_name(name)[0]} cannot be cut into blocks", hint)
    if not (blocks.isdigit() and 1 <= int(blocks) <= most):
        raise ConfigError(
            f"{blocks} blocks of {split_name(name)[0]} cannot be trained on a cached trunk", f"give 1 to {most}"
        )
    if crops not in CROPS[:2]:
        raise ConfigError(f"blocks are trained on one or two views of a picture, not {crops}", "set crops to 1 or 2")


def _other_kind(kind: str, kinds: tuple[str, ...]) -> str:
    if kind == "regions":
        return "regions need a detector (--backbone faster-rcnn-resnet50) or files of them (--backbone bottom-up@PATH)"
    return f"add --kind {kinds[0]}, or choose another backbone"


def _family(name: str) -> ModuleType:
    base, _ = split_name(name)
    for family in _families():
        if family.supports(base):
            return family
    raise UnknownName.of("backbone", base, known())


def _families() -> list[ModuleType]:
    return [catalog.load("image_backbone", name) for name in catalog.names("image_backbone")]
