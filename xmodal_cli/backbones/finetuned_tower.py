"""The fine-tuned image tower of an xmodal model as backbone weights: ``NAME@RUN``, as ``resnet50@vsepp-f8k``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.backbones.names import kind_option, split_name
from xmodal_cli.errors import BadData
from xmodal_cli.file_errors import open_safetensors, parse_json_object, reading

if TYPE_CHECKING:
    from torch import Tensor, nn


# tensors of the tower in a matcher, a captioner or a tagger; ``blocks`` in a family that splits its network itself
TOWER = re.compile(r"(?:image_encoder\.)?tower\.(?:network|blocks)\.(.+)")


@dataclass(frozen=True)
class TunedTower:
    """The weights that a model fine-tuned: the last ``blocks`` blocks of ``backbone``, or all of it if 0.

    ``tensors`` are named as in the network of ``kind`` features; in a family that splits its network itself, as in the
    sequence of the fine-tuned layers.
    """

    file: Path
    backbone: str
    kind: str
    blocks: int
    tensors: Mapping[str, Tensor]


def read_tuned_tower(file: Path, name: str) -> TunedTower | None:
    """The tower of the model ``file``, which fine-tuned the backbone ``name``; None if it is not an xmodal model.

    Raises BadData if the model did not fine-tune this backbone.
    """
    if file.suffix != ".safetensors":
        return None
    with (
        reading(file, "train or download it again", what="cannot be read as a model"),
        open_safetensors(file, "pt") as opened,
    ):
        text = (opened.metadata() or {}).get("xmodal")
        if text is None:
            return None
        facts = parse_json_object(text)["architecture"].get("towers", {}).get("image", {})
        if facts and (type(facts.get("blocks")) is not int or not isinstance(facts.get("kind"), str)):
            raise ValueError("architecture.towers.image has no number of blocks or no kind")
        backbone = str(facts.get("backbone", ""))
        matches = [found for key in opened.keys() if (found := TOWER.fullmatch(key))]  # noqa: SIM118 (not a dict)
        tensors = {found[1]: opened.get_tensor(found[0]) for found in matches}
    if not backbone or not tensors:
        raise BadData(
            f"{file} has no fine-tuned image backbone",
            "use a model trained with optimizer.image_tower_lr_scale above 0, or a file with weights",
        )
    if split_name(backbone)[0] != split_name(name)[0]:
        raise BadData(f"{file} fine-tuned {backbone}, not {name}", f"name the backbone {split_name(backbone)[0]}@MODEL")
    return TunedTower(file, backbone, facts["kind"], facts["blocks"], tensors)


def load_tuned_tower(network: nn.Module, tower: TunedTower, kind: str) -> None:
    """Replace the fine-tuned weights in ``network``, which computes ``kind`` features with the frozen weights.

    The networks of two kinds have the same layers, perhaps below another module. Raises BadData if they do not.
    """
    own = network.state_dict()
    loaded = _rename(tower.tensors, own)
    if loaded is None:
        raise BadData(
            f"{tower.file} fine-tuned the network of {tower.kind} features of {tower.backbone}, "
            f"which has other layers than that of {kind} features",
            f"use {kind_option(tower.kind)}",
        )
    network.load_state_dict(loaded, strict=False)


def _rename(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """``tensors`` with the names of a state dict, all with the same prefix more or less; None if it has not all."""
    first = next(iter(tensors))
    more = sorted({name.removesuffix(first) for name in own if name.endswith(first)}, key=len)
    fewer = sorted({first.removesuffix(name) for name in own if first.endswith(name)}, key=len)
    for add, remove in [*((prefix, "") for prefix in more), *(("", prefix) for prefix in fewer)]:
        renamed = {f"{add}{name.removeprefix(remove)}": value for name, value in tensors.items()}
        if all(name in own and own[name].shape == value.shape for name, value in renamed.items()):
            return renamed
    return None
