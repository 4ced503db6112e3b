"""A pretrained network, the tower, in front of an encoder; and which of a model's weights are its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from torch import Tensor, nn

from xmodal_cli.types import CaptionerOutput, CaptionState


class EncoderOnTower(nn.Module):
    """An encoder that reads what a tower makes of its input.

    A tower that is not ``tuned`` has no gradients and never leaves evaluation mode; in place of its raw input, token
    ids, it may be given what it made of them before, which are no whole numbers.
    """

    def __init__(self, tower: nn.Module, encoder: nn.Module, tuned: bool) -> None:
        super().__init__()
        self.tower, self.encoder, self.tuned = tower, encoder, tuned
        if not tuned:
            tower.requires_grad_(False)

    @property
    def state_dim(self) -> int:
        """Length of the encoder's states."""
        return cast(int, self.encoder.state_dim)

    @property
    def out_dim(self) -> int | None:
        """Length of the encoder's vectors, where it has no choice."""
        return getattr(self.encoder, "out_dim", None)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.tower.train(mode and self.tuned)
        return self

    def forward(self, raw: Tensor, *lengths: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(self._read(raw, *lengths), *lengths))

    def states(self, raw: Tensor, *lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder's ``states`` gives. (items, longest, state_dim), (items, longest) bool."""
        return cast(tuple[Tensor, Tensor], self.encoder.states(self._read(raw, *lengths), *lengths))  # type: ignore[operator]

    def _read(self, raw: Tensor, *lengths: Tensor) -> Tensor:
        made_before = not self.tuned and raw.is_floating_point()
        return raw if made_before else cast(Tensor, self.tower(raw, *lengths))


def trainable_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The weights that were trained, and buffers: what a file has to hold; frozen ones come with their tower."""
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trainable_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``trainable_state_dict``. Raises RuntimeError where names or shapes differ."""
    own = trainable_state_dict(model).keys()
    missing, unexpected = own - tensors.keys(), tensors.keys() - own
    if missing or unexpected:
        raise RuntimeError(f"missing: {sorted(missing)[:3]}, unexpected: {sorted(unexpected)[:3]}")
    model.load_state_dict(dict(tensors), strict=False)


class CaptionerOnTower(nn.Module):
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

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        teaching: CaptionerOutput = self.captioner(self.tower(image_features), image_of_caption, tokens)
        return teaching
