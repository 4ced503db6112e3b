"""Sampling of captions.

A token is sampled by inverse transform sampling: one uniform number per token. The numbers of an image depend only on
the seed and on its index in the job, so neither the batch size nor the device changes a caption.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.captioning.logits_processor import MIN_LOG_PROB, LogitsProcessor
from xmodal_cli.types import Captioner, Decoding, Hypothesis, SpecialTokens


def sample_categorical(probs: Any, noise: Any) -> Any:
    """(..., vocab) unnormalized probabilities, (...) uniform in [0, 1) -> (...) int64, never with probability 0."""
    library = library_of(probs)
    cumulative = library.cumsum(probs)
    indices = (cumulative <= noise[..., None] * cumulative[..., -1:]).sum(-1)[..., None].clip(max=probs.shape[-1] - 1)
    is_possible = library.take(probs, indices, -1) > 0  # a GPU sums in blocks and may round where they meet
    return library.where(is_possible, indices, library.argmax(probs))[..., 0]


def sample(
    captioner: Captioner,
    prefilled: tuple[Any, Any],
    special_tokens: SpecialTokens,
    settings: Decoding,
    attention: bool = False,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """``num`` captions per image, best score first; the same caption may occur more than once.

    ``prefilled`` is the result of ``prefill``; ``first`` is the index of the first image of the batch in the job.
    """
    log_probs, state = prefilled
    library, logits_processor = library_of(log_probs), LogitsProcessor(special_tokens, settings)
    noise = library.from_numpy(_sample_noise(len(log_probs), settings, first), log_probs)
    lengths = library.integers([[0] * settings.num] * len(log_probs), log_probs)  # (images, rows)
    state, attention_steps = state.select(lengths), [_repeat_rows(state.attention, settings.num)]
    log_probs = _repeat_rows(log_probs, settings.num)
    ended, totals = lengths > 0, library.zeros(lengths.shape, log_probs)
    generated = lengths[..., None][..., :0]
    for length in range(settings.max_length + 1):
        allowed = logits_processor.process(log_probs, length, generated)
        tokens = sample_next(allowed, noise[..., length], settings)
        continues = ~ended & (tokens != special_tokens.eos) & (length < settings.max_length)
        is_eos = ~ended & (tokens == special_tokens.eos)
        token_log_probs = library.take(log_probs, tokens[..., None], -1)[..., 0].clip(min=MIN_LOG_PROB)
        totals = totals + library.where(continues | is_eos, token_log_probs, 0.0)
        lengths, ended = lengths + library.to_integers(continues), ended | is_eos
        if not bool(continues.any()):
            break
        next_tokens = library.where(continues, tokens, special_tokens.eos)
        generated = library.concat((generated, next_tokens[..., None]), -1)
        log_probs, state = captioner.step(state, generated[..., -1])
        attention_steps.append(state.attention)
    scores = totals / library.to_floats(lengths + library.to_integers(ended), totals) ** settings.length_penalty
    weights = [step for step in attention_steps[: generated.shape[-1]] if attention and step is not None]
    stacked = library.to_numpy(library.stack(weights, 2)) if weights else None
    return _hypotheses((scores, totals, lengths, ended, generated), stacked)


def _repeat_rows(array: Any, num: int) -> Any:
    """(images, 1, ...) -> (images, num, ...); None stays None."""
    return None if array is None else library_of(array).broadcast_to(array, (len(array), num, array.shape[-1]))


def sample_next(log_probs: Any, noise: Any, settings: Decoding) -> Any:
    """(..., vocab) and (...) uniform in [0, 1) -> (...) tokens, by temperature, then ``top_k``, then ``top_p``."""
    library, logits = library_of(log_probs), log_probs / settings.temperature
    if not settings.top_k and settings.top_p >= 1:
        return sample_categorical(library.softmax(logits), noise)
    tokens = library.top_indices(logits, min(settings.top_k or logits.shape[-1], logits.shape[-1]))
    probs = library.softmax(library.take(logits, tokens, -1))
    if settings.top_p < 1:
        mass_before = library.cumsum(probs) - probs
        probs = library.where(mass_before >= settings.top_p, 0.0, probs)
    return library.take(tokens, sample_categorical(probs, noise)[..., None], -1)[..., 0]


def _sample_noise(num_images: int, settings: Decoding, first: int) -> np.ndarray:
    """(images, num, steps) float32, uniform in [0, 1)."""
    shape = (settings.num, settings.max_length + 1)
    generators = (np.random.default_rng((settings.seed, first + image)) for image in range(num_images))
    return np.stack([rng.random(shape, dtype=np.float32) for rng in generators])


def _hypotheses(parts: tuple[Any, ...], attention: np.ndarray | None) -> list[list[Hypothesis]]:
    """Scores, log-probabilities, lengths, ended (images, rows) and tokens (images, rows, longest) -> hypotheses.

    ``attention`` is (images, rows, longest, cells).
    """
    results = []
    for image, rows in enumerate(zip(*(part.tolist() for part in parts), strict=True)):
        captions = []
        for row, (score, log_prob, length, ended, tokens) in enumerate(zip(*rows, strict=True)):
            weights = None if attention is None else attention[image, row, :length].copy()
            captions.append(Hypothesis(tuple(tokens[:length]), score, log_prob, ended, weights))
        results.append(sorted(captions, key=lambda caption: -caption.score))
    return results
