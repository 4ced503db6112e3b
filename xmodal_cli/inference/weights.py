"""Loading weights from a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xmodal_cli.errors import BadModel
from xmodal_cli.models.model_file import read_tensors
from xmodal_cli.models.towers import load_trainable_state_dict

if TYPE_CHECKING:
    from torch import nn

    from xmodal_cli.inference.models import ModelInfo


def load_weights(model: nn.Module, info: ModelInfo) -> None:
    """Load the weights of ``info`` into ``model``. Raises MissingData, BadModel."""
    try:
        load_trainable_state_dict(model, read_tensors(info.path, info.fingerprint))
    except RuntimeError as error:
        raise BadModel(f"the weights in {info.path} do not match its header", str(error)[:200]) from error
