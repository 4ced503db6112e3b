"""Prefill: encode the images and feed BOS and the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.errors import BadModel
from xmodal_cli.types import Captioner, SpecialTokens


def prefill(
    captioner: Captioner, image_features: Any, special_tokens: SpecialTokens, prompt: Sequence[int] | Any = ()
) -> tuple[Any, Any]:
    """Return (images, 1, vocab) log-probabilities of the first token, and the state with one row per image.

    ``prompt`` are tokens of all images, or (images, length) int64.

    Raises BadModel if the model outputs NaN.
    """
    features = first_member(image_features)
    library, num_images = library_of(features), len(features)
    state = captioner.start(image_features)
    log_probs, state = captioner.step(state, library.integers([[special_tokens.bos]] * num_images, features))
    rows = library.integers(prompt, features)
    rows = library.broadcast_to(rows, (num_images, rows.shape[-1]))
    for position in range(rows.shape[-1]):
        log_probs, state = captioner.step(state, rows[:, position : position + 1])
    if bool(library.is_nan(log_probs).any()):
        raise BadModel("the captioner outputs NaN", "its training diverged: train again with a lower optimizer.lr")
    return log_probs, state


def first_member(image_features: Any) -> Any:
    """The features of the first member of an ensemble, or those of the only captioner."""
    return image_features[0] if isinstance(image_features, tuple | list) else image_features
