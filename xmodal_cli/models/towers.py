"""A pretrained network, the tower, in front of an encoder or captioner; state dicts without frozen weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from torch import Tensor, nn

from xmodal_cli.types import CaptionerOutput, CaptionState


class EncoderOnTower(nn.Module):
    """An encoder whose input is the output of a tower.

    A tower that is not ``tuned`` is frozen and stays in evaluation mode. Its input may then also be its precomputed
    output, which is recognized by its floating-point dtype.
    """

    def __init__(self, tower: nn.Module, encoder: nn.Module, tuned: bool) -> None:
        super().__init__()
        self.tower, self.encoder, self.tuned = tower, encoder, tuned
        if not tuned:
            tower.requires_grad_(False)

    @property
    def state_dim(self) -> int:
        """Dimension of the encoder's states."""
        return cast(int, self.encoder.state_dim)

    @property
    def out_dim(self) -> int | None:
        """Output dimension of the encoder, if it is fixed."""
        return getattr(self.encoder, "out_dim", None)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.tower.train(mode and self.tuned)
        return self

    def forward(self, inputs: Tensor, *lengths: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(self._apply_tower(inputs, *lengths), *lengths))

    def states(self, inputs: Tensor, *lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's ``states``: (items, longest, state_dim), (items, longest) bool."""
        return cast(tuple[Tensor, Tensor], self.encoder.states(self._apply_tower(inputs, *lengths), *lengths))  # type: ignore[operator]

    def _apply_tower(self, inputs: Tensor, *lengths: Tensor) -> Tensor:
        is_precomputed = not self.tuned and inputs.is_floating_point()
        return inputs if is_precomputed else cast(Tensor, self.tower(inputs, *lengths))


def trainable_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The trainable weights and all buffers, for the model file. Frozen weights are loaded with their tower."""
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trainable_state_dict(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of ``trainable_state_dict``. Raises RuntimeError if names or shapes differ."""
    expected = trainable_state_dict(model).keys()
    missing, unexpected = expected - tensors.keys(), tensors.keys() - expected
    if missing or unexpected:
        raise RuntimeError(f"missing: {sorted(missing)[:3]}, unexpected: {sorted(unexpected)[:3]}")
    model.load_state_dict(dict(tensors), strict=False)


class CaptionerOnTower(nn.Module):
    """A ``types.Captioner`` whose input is the output of ``tower``."""

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
        log_probs, next_state = self.captioner.step(state, tokens)
        return log_probs, next_state

    def forward(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``."""
        output: CaptionerOutput = self.captioner(self.tower(image_features), image_of_caption, tokens)
        return output
