"""Prefill: encode the images and feed BOS and the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xmodal_cli.errors import BadModel
from xmodal_cli.types import Captioner, SpecialTokens


def prefill(
    captioner: Captioner, image_features: Any, special_tokens: SpecialTokens, prompt: Sequence[int] | Tensor = ()
) -> tuple[Tensor, Any]:
    """Return (images, 1, vocab) log-probabilities of the first token, and the state with one row per image.

    ``prompt`` are tokens of all images, or (images, length) int64.

    Raises BadModel if the model outputs NaN.
    """
    state = captioner.start(image_features)
    first_features = image_features if isinstance(image_features, Tensor) else image_features[0]
    bos = torch.full((len(first_features), 1), special_tokens.bos, device=first_features.device)
    log_probs, state = captioner.step(state, bos)
    rows = prompt if isinstance(prompt, Tensor) else torch.tensor(prompt, dtype=torch.int64).expand(len(bos), -1)
    for position in range(rows.shape[-1]):
        log_probs, state = captioner.step(state, rows[:, position : position + 1].to(bos.device))
    if bool(log_probs.isnan().any()):
        raise BadModel("the captioner outputs NaN", "its training diverged: train again with a lower optimizer.lr")
    return log_probs, state
