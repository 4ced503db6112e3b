"""A captioner behind an image tower that is trained along with it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from xmodal_cli.types import CaptionState, Teaching


class CaptionerBehindTower(nn.Module):
    """A ``types.Captioner`` whose images go through ``tower`` first."""

    def __init__(self, tower: nn.Module, captioner: Any) -> None:
        super().__init__()
        self.tower, self.captioner = tower, captioner
        self.vocab_size: int = captioner.vocab_size

    def start(self, image_features: Tensor) -> CaptionState:
        """See ``types.Captioner``."""
        state: CaptionState = self.captioner.start(self.tower(image_features))
        return state

    def step(self, state: Any, tokens: Tensor) -> tuple[Tensor, Any]:
        """See ``types.Captioner``."""
        log_probs, after = self.captioner.step(state, tokens)
        return log_probs, after

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> Teaching:
        """See ``types.Captioner``."""
        teaching: Teaching = self.captioner(self.tower(image_features), image_of_caption, tokens)
        return teaching
