"""Ensembles of captioners: the probabilities of the members are averaged at every step.

``probabilities`` is the arithmetic mean; ``log_probabilities`` is the geometric mean, renormalized to sum to 1. Members
may have different architectures and input features; they must share the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.types import Captioner, CaptionerOutput, CaptionState

MEANS = ("probabilities", "log_probabilities")


class EnsembleState:
    """The states of the members. ``attention`` is their mean, or None if the members attend to different cells."""

    def __init__(self, states: Sequence[CaptionState]) -> None:
        self.states = tuple(states)
        self.attention = _mean_attention([state.attention for state in states])

    def select(self, parents: Any) -> Self:
        """See ``types.CaptionState``."""
        return type(self)([state.select(parents) for state in self.states])


class Ensemble:
    """A ``types.Captioner``. Its ``image_features`` are one array for all members, or a tuple of one per member."""

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
        """See ``types.Captioner``. Raises ValueError if the numbers of feature arrays and members differ."""
        pairs = zip(self.captioners, self._features_per_member(image_features), strict=True)
        return EnsembleState([captioner.start(features) for captioner, features in pairs])

    def step(self, state: EnsembleState, tokens: Any) -> tuple[Any, EnsembleState]:
        """See ``types.Captioner``."""
        pairs = zip(self.captioners, state.states, strict=True)
        steps = [captioner.step(member_state, tokens) for captioner, member_state in pairs]
        return self._mean([log_probs for log_probs, _ in steps]), EnsembleState([new for _, new in steps])

    def __call__(self, image_features: Any, image_of_caption: Any, tokens: Any) -> CaptionerOutput:
        """See ``types.Captioner``; the logits are log-probabilities."""
        pairs = zip(self.captioners, self._features_per_member(image_features), strict=True)
        outputs = [captioner(features, image_of_caption, tokens) for captioner, features in pairs]
        log_probs = [output.logits.float().log_softmax(-1) for output in outputs]
        return CaptionerOutput(self._mean(log_probs), _mean_attention([output.attention for output in outputs]))

    def _features_per_member(self, image_features: Any) -> Sequence[Any]:
        is_shared = not isinstance(image_features, tuple | list)
        return [image_features] * len(self.captioners) if is_shared else image_features

    def _mean(self, log_probs: list[Any]) -> Any:
        """(..., vocab) of each member -> (..., vocab)."""
        library = library_of(log_probs[0])
        stacked = library.stack(log_probs, 0)
        if self.mean == "probabilities":
            return library.logsumexp_first(stacked) - math.log(len(log_probs))
        return library.log_softmax(stacked.mean(0))


def _mean_attention(attentions: Sequence[Any]) -> Any:
    arrays = [attention for attention in attentions if attention is not None]
    if not arrays or len(arrays) < len(attentions) or len({array.shape for array in arrays}) > 1:
        return None
    return library_of(arrays[0]).stack(arrays, 0).mean(0)
