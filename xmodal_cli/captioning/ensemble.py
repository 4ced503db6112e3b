"""Several captioners that write one caption together: at every step their chances are averaged.

``probabilities`` is the arithmetic mean; ``log_probabilities`` is the geometric one, scaled to sum to 1. Members may be
of different kinds and read different features; they must share the vocabulary.
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
    """The members' states side by side; ``attention`` is their mean where all look at equally many cells."""

    def __init__(self, states: Sequence[CaptionState]) -> None:
        self.states = tuple(states)
        self.attention = _mean_attention([state.attention for state in states])

    def select(self, parents: Tensor) -> Self:
        """See ``types.CaptionState``."""
        return type(self)([state.select(parents) for state in self.states])


class Ensemble:
    """A ``types.Captioner``. Its ``image_features`` are one tensor for all members, or a tuple of one for each."""

    def __init__(self, captioners: Sequence[Captioner], mean: str = "probabilities") -> None:
        """Raises ValueError where there is no member, where vocabularies differ, or for another ``mean``."""
        sizes = {captioner.vocab_size for captioner in captioners}
        if len(sizes) != 1:
            raise ValueError(f"an ensemble needs members of one vocabulary, not of {sorted(sizes) or 'none'} words")
        if mean not in MEANS:
            raise ValueError(f"mean is {' or '.join(MEANS)}, not {mean!r}")
        self.captioners, self.mean = tuple(captioners), mean
        (self.vocab_size,) = sizes

    def start(self, image_features: Any) -> EnsembleState:
        """See ``types.Captioner``. Raises ValueError where there are not as many features as members."""
        pairs = zip(self.captioners, self._each(image_features), strict=True)
        return EnsembleState([captioner.start(features) for captioner, features in pairs])

    def step(self, state: EnsembleState, tokens: Tensor) -> tuple[Tensor, EnsembleState]:
        """See ``types.Captioner``."""
        steps = [captioner.step(own, tokens) for captioner, own in zip(self.captioners, state.states, strict=True)]
        return self._mean([log_probs for log_probs, _ in steps]), EnsembleState([own for _, own in steps])

    def __call__(self, image_features: Any, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        """See ``types.Captioner``; the logits are log-probabilities."""
        pairs = zip(self.captioners, self._each(image_features), strict=True)
        taught = [captioner(features, image_of_caption, tokens) for captioner, features in pairs]
        log_probs = [teaching.logits.float().log_softmax(-1) for teaching in taught]
        return CaptionerOutput(self._mean(log_probs), _mean_attention([teaching.attention for teaching in taught]))

    def _each(self, image_features: Any) -> Sequence[Tensor]:
        return [image_features] * len(self.captioners) if isinstance(image_features, Tensor) else image_features

    def _mean(self, log_probs: list[Tensor]) -> Tensor:
        """(..., vocab) of each member -> (..., vocab)."""
        together = torch.stack(log_probs)
        if self.mean == "probabilities":
            return together.logsumexp(0) - math.log(len(log_probs))
        return together.mean(0).log_softmax(-1)


def _mean_attention(maps: Sequence[Tensor | None]) -> Tensor | None:
    known = [each for each in maps if each is not None]
    if not known or len(known) < len(maps) or len({each.shape for each in known}) > 1:
        return None
    return torch.stack(known).mean(0)
