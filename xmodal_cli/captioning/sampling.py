"""Captions drawn at random: as a person asks for them, and as self-critical training needs them.

A word is found by where one number between 0 and 1 falls among the words' chances laid end to end. An image's numbers
depend on the seed and on its place in the whole job alone, so that no batch size and no device changes a caption.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.captioning.logits_processor import BARRED, LogitsProcessor, banned_ids
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
    """(images, num, longest) int64: captions drawn by the model's own chances, or its likeliest words (one row).

    Each ends with ``special_tokens.eos``, and is padded with it; one that has not ended after ``max_length`` words has
    none. The number of draws from ``generator`` does not depend on what is drawn.
    """
    log_probs, state = prefill(captioner, image_features, special_tokens)
    num = 1 if greedy else num
    images, device = len(log_probs), log_probs.device
    noise_on = torch.device("cpu") if generator is None else generator.device
    noise = torch.rand(max_length, images, num, generator=generator, device=noise_on).to(device)
    banned = banned_ids(special_tokens, device)
    state = state.select(torch.zeros(images, num, dtype=torch.int64, device=device))
    log_probs = log_probs.expand(-1, num, -1)
    written: list[Tensor] = []
    ended = torch.zeros(images, num, dtype=torch.bool, device=device)
    for place in range(max_length):
        chances = log_probs.exp().index_fill_(-1, banned, 0)
        tokens = chances.argmax(-1) if greedy else draw(chances, noise[place])
        written.append(tokens.masked_fill(ended, special_tokens.eos))
        ended = written[-1] == special_tokens.eos
        if place + 1 == max_length or bool(ended.all()):
            break
        log_probs, state = captioner.step(state, written[-1])
    return torch.stack(written, dim=-1)


def draw(chances: Tensor, noise: Tensor) -> Tensor:
    """(..., words) chances, of any sum, and (...) numbers from 0 up to 1 -> (...) int64; never one without a chance."""
    reach = chances.cumsum(-1)
    places = torch.searchsorted(reach, noise[..., None] * reach[..., -1:], right=True)
    places = places.clamp(max=chances.shape[-1] - 1)
    possible = chances.gather(-1, places) > 0  # a GPU adds in pieces, and may round at their seams
    return places.where(possible, chances.argmax(-1, keepdim=True)).squeeze(-1)


def sample(
    captioner: Captioner,
    prefilled: tuple[Tensor, Any],
    special_tokens: SpecialTokens,
    settings: Decoding,
    attention: bool = False,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """``num`` captions for each image, best score first; the same one may come twice.

    ``prefilled`` is what ``prefill`` gave; ``first`` is the place of the batch's first image in the whole job.
    """
    log_probs, state = prefilled
    rules = LogitsProcessor(special_tokens, settings, log_probs.device)
    noise = _noise(len(log_probs), settings, first).to(log_probs.device)
    looked = [None if state.attention is None else state.attention.expand(-1, settings.num, -1)]
    log_probs = log_probs.expand(-1, settings.num, -1)
    lengths = torch.zeros(noise.shape[:2], dtype=torch.int64, device=log_probs.device)
    state = state.select(lengths)
    ended, totals = lengths > 0, torch.zeros_like(log_probs[..., 0])
    written = lengths[..., None][..., :0]
    for length in range(settings.max_length + 1):
        tokens = chosen(rules.allowed(log_probs, length, written), noise[..., length], settings)
        goes_on = ~ended & (tokens != special_tokens.eos) & (length < settings.max_length)  # or it ends here, or is cut
        ends = ~ended & (tokens == special_tokens.eos)
        gained = log_probs.gather(-1, tokens[..., None]).squeeze(-1).clamp(min=BARRED)
        totals = totals + gained.where(goes_on | ends, 0)
        lengths, ended = lengths + goes_on, ended | ends
        if not bool(goes_on.any()):
            break
        written = torch.cat((written, tokens.where(goes_on, special_tokens.eos)[..., None]), dim=-1)
        log_probs, state = captioner.step(state, written[..., -1])
        looked.append(state.attention)
    scores = totals / (lengths + ended) ** settings.length_penalty
    maps = [each for each in looked[: written.shape[-1]] if attention and each is not None]
    seen = torch.stack(maps, dim=2).cpu() if maps else None
    return _hypotheses((scores, totals, lengths, ended, written), seen)


def chosen(log_probs: Tensor, noise: Tensor, settings: Decoding) -> Tensor:
    """(..., vocab), and (...) numbers from 0 up to 1 -> (...) tokens, by temperature, ``top_k`` and then ``top_p``."""
    warm = log_probs / settings.temperature
    if not settings.top_k and settings.top_p >= 1:
        return draw(warm.softmax(-1), noise)
    likeliest, tokens = warm.topk(min(settings.top_k or warm.shape[-1], warm.shape[-1]))
    chances = likeliest.softmax(-1)
    if settings.top_p < 1:
        likelier = chances.cumsum(-1) - chances
        chances = chances.masked_fill(likelier >= settings.top_p, 0)
    return tokens.gather(-1, draw(chances, noise)[..., None]).squeeze(-1)


def _noise(num_images: int, settings: Decoding, first: int) -> Tensor:
    """(images, num, steps) float32 from 0 up to 1."""
    shape = (settings.num, settings.max_length + 1)
    streams = (np.random.default_rng((settings.seed, first + image)) for image in range(num_images))
    drawn = [torch.from_numpy(stream.random(shape, dtype=np.float32)) for stream in streams]
    return torch.stack(drawn)


def _hypotheses(parts: tuple[Tensor, ...], seen: Tensor | None) -> list[list[Hypothesis]]:
    """Scores, log-probabilities, lengths, ends (images, rows) and words (images, rows, longest), to captions."""
    found = []
    for image, rows in enumerate(zip(*(part.tolist() for part in parts), strict=True)):
        captions = []
        for row, (score, log_prob, length, ended, words) in enumerate(zip(*rows, strict=True)):
            maps = None if seen is None else seen[image, row, :length].clone()
            captions.append(Hypothesis(tuple(words[:length]), score, log_prob, ended, maps))
        found.append(sorted(captions, key=lambda caption: -caption.score))
    return found
