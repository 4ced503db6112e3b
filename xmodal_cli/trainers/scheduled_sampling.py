"""Scheduled sampling in two passes (Mihaylova and Martins, arXiv 1906.07651).

The first pass computes the model's distributions under teacher forcing; the second is trained with some of the tokens
replaced by samples of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xmodal_cli.types import Captioner


@torch.no_grad()
def replace_tokens(
    captioner: Captioner,
    image_features: Tensor,
    image_of_caption: Tensor,
    tokens: Tensor,
    prob: float,
    prompt_lengths: Tensor | None = None,
) -> Tensor:
    """``tokens`` (captions, longest) with some replaced by samples of the model, each with probability ``prob``.

    A sample is taken from the model's distribution at its position. BOS and the ``prompt_lengths`` (captions,) tokens
    after it, the tags and a second BOS, are given when captions are generated too, so they are never replaced.
    """
    logits = captioner(image_features, image_of_caption, tokens).logits.float()
    sampled = torch.distributions.Categorical(logits=logits[:, :-1]).sample()  # type: ignore[no-untyped-call]
    replaced = torch.rand(sampled.shape, device=sampled.device) < prob
    if prompt_lengths is not None:
        positions = torch.arange(1, tokens.shape[1], device=tokens.device)[None]
        replaced &= positions > prompt_lengths.to(tokens.device)[:, None]
    return torch.cat((tokens[:, :1], torch.where(replaced, sampled, tokens[:, 1:])), dim=1)
