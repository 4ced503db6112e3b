"""Ensembles of captioners: the probabilities of the members are averaged at every step.

``probabilities`` is the arithmetic mean; ``log_probabilities`` is the geometric mean, renormalized to sum to 1. Members
may have different architectures and input features; they must share the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from xmodal_cli.types import Captioner, CaptionerOutput, CaptionState

MEANS = ("probabilities", "log_probabilities")


class EnsembleState:
    """The states of the members. ``attention`` is their mean, or None if the members attend to different cells."""

    def __init__(self, states: Sequence[CaptionState]) -> None:
        self.states = tuple(states)
        self.attention = _mean_attention([state.attention for state in states])

    def select(self, parents: Tensor) -> Self:
        """See ``types.CaptionState``."""
        return type(self)([state.select(parents) for state in self.states])


class Ensemble:
    """A ``types.Captioner``. Its ``image_features`` are one tensor for all members, or a tuple of one per member."""

    def __init__(self, captioners: Sequence[Captioner], mean: str = "probabilities") -> None:
        """Raises ValueError if there are no members, for different vocabulary sizes, and for an unknown ``mean``."""
        sizes = {captioner.vocab_size for captioner in captioners}
        if len(sizes) != 1:
            raise ValueError(f"an ensemble needs members of one vocabulary size, not {sorted(sizes) or 'none'}")
        if mean not in MEANS:
            raise ValueError(f"mean must be {' or '.join(MEANS)}, not {mean!r}")
        self.captioners, self.mean = tuple(captioners), mean
        (self.vocab_size,) = sizes

    def start(self, image_features: Any) -> EnsembleState:
        """See ``types.Captioner``. Raises ValueError if the numbers of feature tensors and members differ."""
        pairs = zip(self.captioners, self._features_per_member(image_features), strict=True)
        return EnsembleState([captioner.start(features) for captioner, features in pairs])

    def step(self, state: EnsembleState, tokens: Tensor) -> tuple[Tensor, EnsembleState]:
        """See ``types.Captioner``."""
        pairs = zip(self.captioners, state.states, strict=True)
        steps = [captioner.step(member_state, tokens) for captioner, member_state in pairs]
        return self._mean([log_probs for log_probs, _ in steps]), EnsembleState([new for _, new in steps])

    def __call__(self, image_features: Any, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``; the logits are log-probabilities."""
        pairs = zip(self.captioners, self._features_per_member(image_features), strict=True)
        outputs = [captioner(features, image_of_caption, tokens) for captioner, features in pairs]
        log_probs = [output.logits.float().log_softmax(-1) for output in outputs]
        return CaptionerOutput(self._mean(log_probs), _mean_attention([output.attention for output in outputs]))

    def _features_per_member(self, image_features: Any) -> Sequence[Tensor]:
        return [image_features] * len(self.captioners) if isinstance(image_features, Tensor) else image_features

    def _mean(self, log_probs: list[Tensor]) -> Tensor:
        """(..., vocab) of each member -> (..., vocab)."""
        stacked = torch.stack(log_probs)
        if self.mean == "probabilities":
            return stacked.logsumexp(0) - math.log(len(log_probs))
        return stacked.mean(0).log_softmax(-1)


def _mean_attention(attentions: Sequence[Tensor | None]) -> Tensor | None:
    tensors = [attention for attention in attentions if attention is not None]
    if not tensors or len(tensors) < len(attentions) or len({tensor.shape for tensor in tensors}) > 1:
        return None
    return torch.stack(tensors).mean(0)
