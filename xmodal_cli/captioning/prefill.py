"""How every caption begins: the images are shown, the start token and the prompt are fed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from xmodal_cli.errors import BadModel
from xmodal_cli.types import Captioner, SpecialTokens


def prefill(
    captioner: Captioner, image_features: Any, special_tokens: SpecialTokens, prompt: Sequence[int] = ()
) -> tuple[Tensor, Any]:
    """-> (images, 1, vocab) log-probabilities of the first word, and the state, of one row for each image.

    Raises BadModel where the model's weights have left the numbers.
    """
    state = captioner.start(image_features)
    first = image_features if isinstance(image_features, Tensor) else image_features[0]
    row = torch.full((len(first), 1), special_tokens.bos, device=first.device)
    log_probs, state = captioner.step(state, row)
    for token in prompt:
        log_probs, state = captioner.step(state, torch.full_like(row, token))
    if bool(log_probs.isnan().any()):
        raise BadModel(
            "the captioner's probabilities are not numbers", "its training diverged: train again with a lower lr"
        )
    return log_probs, state
