"""Sampling of token sequences in batches, for self-critical training; see ``sampling`` for captions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xmodal_cli.captioning.logits_processor import banned_ids
from xmodal_cli.captioning.prefill import prefill
from xmodal_cli.captioning.sampling import sample_categorical
from xmodal_cli.types import Captioner, SpecialTokens


@torch.no_grad()
def sample_tokens(
    captioner: Captioner,
    image_features: Any,
    special_tokens: SpecialTokens,
    num: int,
    max_length: int,
    generator: torch.Generator | None = None,
    greedy: bool = False,
) -> Tensor:
    """(images, num, longest) int64: captions sampled from the model's probabilities, or the greedy one (num 1).

    Each ends with EOS and is padded with it; a caption that is cut after ``max_length`` tokens has no EOS. The number
    of values taken from ``generator`` does not depend on the sampled tokens.
    """
    log_probs, state = prefill(captioner, image_features, special_tokens)
    num = 1 if greedy else num
    num_images, device = len(log_probs), log_probs.device
    noise_device = torch.device("cpu") if generator is None else generator.device
    noise = torch.rand(max_length, num_images, num, generator=generator, device=noise_device).to(device)
    banned = torch.tensor(banned_ids(special_tokens), dtype=torch.int64, device=device)
    state = state.select(torch.zeros(num_images, num, dtype=torch.int64, device=device))
    log_probs = log_probs.expand(-1, num, -1)
    steps: list[Tensor] = []
    ended = torch.zeros(num_images, num, dtype=torch.bool, device=device)
    for step in range(max_length):
        probs = log_probs.exp().index_fill_(-1, banned, 0)
        tokens = probs.argmax(-1) if greedy else sample_categorical(probs, noise[step])
        steps.append(tokens.masked_fill(ended, special_tokens.eos))
        ended = steps[-1] == special_tokens.eos
        if step + 1 == max_length or bool(ended.all()):
            break
        log_probs, state = captioner.step(state, steps[-1])
    return torch.stack(steps, dim=-1)
