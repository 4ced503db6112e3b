"""The image tower of a model that xmodal trained, as weights: ``efficientnet-lite2@best-offline-f8k``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.errors import BadData

if TYPE_CHECKING:
    from torch import Tensor


TOWER = "tower.blocks."  # where in a model's tensors the blocks are that it trained


def tuned_blocks(file: Path, backbone: str) -> tuple[int, dict[str, Tensor]] | None:
    """How many of ``backbone``'s last blocks the model ``file`` has trained, and their weights by name.

    None for a file that is no model of xmodal's. Raises BadData where it has none of this backbone.
    """
    from safetensors import SafetensorError, safe_open

    if file.suffix != ".safetensors":
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get("xmodal")
            if text is None:
                return None
            tower = json.loads(text)["architecture"].get("towers", {}).get("image", {})
            names = [(name, *name.partition(TOWER)[1:]) for name in opened.keys()]  # noqa: SIM118 (not a dict)
            tensors = {inner: opened.get_tensor(name) for name, found, inner in names if found}
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise BadData(f"{file} cannot be read as a model: {error}", "train or fetch it again") from error
    if tower.get("backbone") != backbone or not tower.get("blocks") or not tensors:
        raise BadData(f"{file} has no blocks of {backbone} that it trained", "give a model with features.tuned_blocks")
    return int(tower["blocks"]), tensors
