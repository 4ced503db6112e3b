"""A text tower of open_clip as a module whose input is token ids and lengths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli.length_mask import length_mask


class TextTower(nn.Module):
    """(captions, longest) int64, (captions,) int64 -> (captions, dim), as ``encode_text`` of open_clip.

    ``logit_scale`` (the logarithm of the factor of the cosines) and ``logit_bias`` (SigLIP, else None) are the
    pretrained values, to initialize fine-tuning.
    """

    def __init__(self, model: nn.Module, context_length: int, pad_id: int) -> None:
        """``model`` is an open_clip model with its text tower in one module (``force_custom_text``)."""
        super().__init__()
        self.text: Any = model.text
        self.context_length, self.pad_id = context_length, pad_id
        weights = model.state_dict()
        self.logit_scale = float(weights["logit_scale"])
        self.logit_bias = float(weights["logit_bias"]) if "logit_bias" in weights else None

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Pads to the context length with ``pad_id``, as in pretraining."""
        width = min(tokens.shape[1], self.context_length)
        padded = tokens.new_full((len(tokens), self.context_length), self.pad_id)
        inside = length_mask(lengths.to(tokens.device), width)
        padded[:, :width] = torch.where(inside, tokens[:, :width], self.pad_id)
        output: Tensor | tuple[Tensor, ...] = self.text(padded)
        vectors: Tensor = output[0] if isinstance(output, tuple) else output  # CoCa also returns the tokens
        return vectors
