"""Sampling of captions, for generation and for self-critical training.

A token is sampled by inverse transform sampling: one uniform number per token. The numbers of an image depend only on
the seed and on its index in the job, so neither the batch size nor the device changes a caption.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.captioning.logits_processor import MIN_LOG_PROB, LogitsProcessor, banned_ids
from xmodal_cli.captioning.prefill import prefill
from xmodal_cli.types import Captioner, Decoding, Hypothesis, SpecialTokens


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
    banned = banned_ids(special_tokens, device)
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


def sample_categorical(probs: Tensor, noise: Tensor) -> Tensor:
    """(..., vocab) unnormalized probabilities, (...) uniform in [0, 1) -> (...) int64, never with probability 0."""
    cumulative = probs.cumsum(-1)
    indices = torch.searchsorted(cumulative, noise[..., None] * cumulative[..., -1:], right=True)
    indices = indices.clamp(max=probs.shape[-1] - 1)
    is_possible = probs.gather(-1, indices) > 0  # a GPU sums in blocks and may round where they meet
    return indices.where(is_possible, probs.argmax(-1, keepdim=True)).squeeze(-1)


def sample(
    captioner: Captioner,
    prefilled: tuple[Tensor, Any],
    special_tokens: SpecialTokens,
    settings: Decoding,
    attention: bool = False,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """``num`` captions per image, best score first; the same caption may occur more than once.

    ``prefilled`` is the result of ``prefill``; ``first`` is the index of the first image of the batch in the job.
    """
    log_probs, state = prefilled
    logits_processor = LogitsProcessor(special_tokens, settings, log_probs.device)
    noise = _sample_noise(len(log_probs), settings, first).to(log_probs.device)
    attention_steps = [None if state.attention is None else state.attention.expand(-1, settings.num, -1)]
    log_probs = log_probs.expand(-1, settings.num, -1)
    lengths = torch.zeros(noise.shape[:2], dtype=torch.int64, device=log_probs.device)
    state = state.select(lengths)
    ended, totals = lengths > 0, torch.zeros_like(log_probs[..., 0])
    generated = lengths[..., None][..., :0]
    for length in range(settings.max_length + 1):
        allowed = logits_processor.process(log_probs, length, generated)
        tokens = sample_next(allowed, noise[..., length], settings)
        continues = ~ended & (tokens != special_tokens.eos) & (length < settings.max_length)
        is_eos = ~ended & (tokens == special_tokens.eos)
        token_log_probs = log_probs.gather(-1, tokens[..., None]).squeeze(-1).clamp(min=MIN_LOG_PROB)
        totals = totals + token_log_probs.where(continues | is_eos, 0)
        lengths, ended = lengths + continues, ended | is_eos
        if not bool(continues.any()):
            break
        generated = torch.cat((generated, tokens.where(continues, special_tokens.eos)[..., None]), dim=-1)
        log_probs, state = captioner.step(state, generated[..., -1])
        attention_steps.append(state.attention)
    scores = totals / (lengths + ended) ** settings.length_penalty
    weights = [step for step in attention_steps[: generated.shape[-1]] if attention and step is not None]
    stacked = torch.stack(weights, dim=2).cpu() if weights else None
    return _hypotheses((scores, totals, lengths, ended, generated), stacked)


def sample_next(log_probs: Tensor, noise: Tensor, settings: Decoding) -> Tensor:
    """(..., vocab) and (...) uniform in [0, 1) -> (...) tokens, by temperature, then ``top_k``, then ``top_p``."""
    logits = log_probs / settings.temperature
    if not settings.top_k and settings.top_p >= 1:
        return sample_categorical(logits.softmax(-1), noise)
    top_logits, tokens = logits.topk(min(settings.top_k or logits.shape[-1], logits.shape[-1]))
    probs = top_logits.softmax(-1)
    if settings.top_p < 1:
        mass_before = probs.cumsum(-1) - probs
        probs = probs.masked_fill(mass_before >= settings.top_p, 0)
    return tokens.gather(-1, sample_categorical(probs, noise)[..., None]).squeeze(-1)


def _sample_noise(num_images: int, settings: Decoding, first: int) -> Tensor:
    """(images, num, steps) float32, uniform in [0, 1)."""
    shape = (settings.num, settings.max_length + 1)
    generators = (np.random.default_rng((settings.seed, first + image)) for image in range(num_images))
    return torch.stack([torch.from_numpy(rng.random(shape, dtype=np.float32)) for rng in generators])


def _hypotheses(parts: tuple[Tensor, ...], attention: Tensor | None) -> list[list[Hypothesis]]:
    """Scores, log-probabilities, lengths, ended (images, rows) and tokens (images, rows, longest) -> hypotheses.

    ``attention`` is (images, rows, longest, cells).
    """
    results = []
    for image, rows in enumerate(zip(*(part.tolist() for part in parts), strict=True)):
        captions = []
        for row, (score, log_prob, length, ended, tokens) in enumerate(zip(*rows, strict=True)):
            weights = None if attention is None else attention[image, row, :length].clone()
            captions.append(Hypothesis(tuple(tokens[:length]), score, log_prob, ended, weights))
        results.append(sorted(captions, key=lambda caption: -caption.score))
    return results
