"""The fine-tuned image tower of an xmodal model as backbone weights: ``efficientnet-lite2@best-offline-f8k``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.errors import BadData
from xmodal_cli.file_errors import open_safetensors, parse_json_object, reading

if TYPE_CHECKING:
    from torch import Tensor


TOWER = "tower.blocks."  # name of the fine-tuned blocks in the tensors of a model


def read_tuned_blocks(file: Path, backbone: str) -> tuple[int, dict[str, Tensor]] | None:
    """The number of last blocks of ``backbone`` that the model ``file`` fine-tuned, and their weights by name.

    None if the file is not an xmodal model. Raises BadData if the model did not fine-tune this backbone.
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
        tower = parse_json_object(text)["architecture"].get("towers", {}).get("image", {})
        if tower and type(tower.get("blocks")) is not int:
            raise ValueError("architecture.towers.image.blocks is not a number")
        names = [(name, *name.partition(TOWER)[1:]) for name in opened.keys()]  # noqa: SIM118 (not a dict)
        tensors = {inner: opened.get_tensor(name) for name, prefix, inner in names if prefix}
    if tower.get("backbone") != backbone or not tower.get("blocks") or not tensors:
        raise BadData(
            f"{file} has no fine-tuned blocks of {backbone}", "use a model trained with features.tuned_blocks"
        )
    return int(tower["blocks"]), tensors
