"""Reference implementations of decoding for one image, with lists: the expected results of ``captioning``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from helpers.table_captioner import BOS, EOS, PAD, TableCaptioner
from xmodal_cli.types import Decoding


@dataclass(frozen=True)
class Reference:
    """An expected ``types.Hypothesis``, without attention."""

    tokens: tuple[int, ...]
    log_prob: float
    ended: bool
    score: float


def has_repeated_ngram(tokens: tuple[int, ...], size: int) -> bool:
    ngrams = [tokens[n : n + size] for n in range(len(tokens) - size + 1)]
    return len(set(ngrams)) < len(ngrams)


def next_tokens(model: TableCaptioner, image: int, tokens: tuple[int, ...], settings: Decoding) -> dict[int, float]:
    """The allowed next tokens and their log-probabilities."""
    log_probs = model.look_up(image, (BOS, *tokens))[0]
    allowed = {}
    for token in range(model.vocab_size):
        if token in (BOS, PAD) or (token == EOS and len(tokens) < settings.min_length):
            continue
        if (
            token != EOS
            and settings.no_repeat_ngram_size
            and has_repeated_ngram((*tokens, token), settings.no_repeat_ngram_size)
        ):
            continue
        allowed[token] = float(log_probs[token])
    return allowed or {EOS: float(log_probs[EOS])}


def score(tokens: tuple[int, ...], log_prob: float, ended: bool, settings: Decoding) -> Reference:
    return Reference(tokens, log_prob, ended, log_prob / (len(tokens) + ended) ** settings.length_penalty)


def exhaustive_search(model: TableCaptioner, image: int, settings: Decoding) -> list[Reference]:
    """All captions that end, best first."""

    def expand(tokens: tuple[int, ...], total: float) -> Iterator[Reference]:
        for token, log_prob in next_tokens(model, image, tokens, settings).items():
            if token == EOS:
                yield score(tokens, total + log_prob, True, settings)
            elif len(tokens) < settings.max_length:
                yield from expand((*tokens, token), total + log_prob)

    return sorted(expand((), 0.0), key=lambda caption: -caption.score)


def greedy_search(model: TableCaptioner, image: int, settings: Decoding) -> Reference:
    tokens: tuple[int, ...] = ()
    total = 0.0
    while True:
        token, log_prob = max(next_tokens(model, image, tokens, settings).items(), key=lambda item: item[1])
        if token == EOS:
            return score(tokens, total + log_prob, True, settings)
        if len(tokens) == settings.max_length:
            return score(tokens, total, False, settings)
        tokens, total = (*tokens, token), total + log_prob


def beam_search(model: TableCaptioner, image: int, settings: Decoding) -> list[Reference]:
    """Diverse beam search without early termination, or with the heuristic of ``generate`` in transformers."""
    beam = settings.beam // settings.num_beam_groups

    def ends_early(captions: list[Reference], hypotheses: list[tuple[tuple[int, ...], float]]) -> bool:
        needed = max(beam, settings.num)
        scores = sorted((caption.score for caption in captions), reverse=True)[:needed]
        live_scores = [total / len(tokens) ** settings.length_penalty for tokens, total in hypotheses]
        return not hypotheses or (len(scores) == needed and scores[-1] >= max(live_scores))

    live: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(settings.num_beam_groups)]
    finished: list[list[Reference]] = [[] for _ in range(settings.num_beam_groups)]
    for length in range(settings.max_length + 1):
        chosen: list[int] = []
        for group in range(settings.num_beam_groups):
            penalized = chosen if length < settings.max_length else []
            candidates = [
                (
                    total + log_prob - (settings.diversity_penalty * penalized.count(token)),
                    total + log_prob,
                    tokens,
                    token,
                )
                for tokens, total in live[group]
                for token, log_prob in next_tokens(model, image, tokens, settings).items()
            ]
            candidates.sort(key=lambda candidate: -candidate[0])
            ending = [candidate for candidate in candidates[:beam] if candidate[3] == EOS]
            finished[group] += [score(tokens, total, True, settings) for _, total, tokens, _ in ending]
            if length == settings.max_length:
                ended = {tokens for _, _, tokens, _ in ending}
                finished[group] += [score(t, total, False, settings) for t, total in live[group] if t not in ended]
            unfinished = [candidate for candidate in candidates if candidate[3] != EOS][:beam]
            live[group] = [((*tokens, token), total) for _, total, tokens, token in unfinished]
            if beam == 1 and finished[group]:
                live[group] = []
            chosen += [tokens[-1] for tokens, _ in live[group]]
        if settings.early_stopping == "heuristic" and all(map(ends_early, finished, live)):
            break
    best = [sorted(group, key=lambda caption: -caption.score)[: settings.num] for group in finished]
    return merge_groups(best, settings.num)


def merge_groups(groups: list[list[Reference]], num: int) -> list[Reference]:
    merged: list[Reference] = []
    for rank in range(num):
        for caption in sorted((group[rank] for group in groups if rank < len(group)), key=lambda c: -c.score):
            if len(merged) < num and caption.tokens not in [other.tokens for other in merged]:
                merged.append(caption)
    return sorted(merged, key=lambda caption: -caption.score)


def sampling_probs(log_probs: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """(vocab,) log-probabilities -> (vocab,) probabilities after temperature, ``top_k`` and ``top_p``."""
    weights = np.exp(log_probs.astype(np.float64) / temperature)
    order = np.argsort(-weights)
    order = order[: top_k or None]
    probs = weights[order] / weights[order].sum()
    kept, mass = [], 0.0
    for token, prob in zip(order, probs, strict=True):
        if mass < top_p:
            kept.append(token)
        mass += prob
    result = np.zeros_like(weights)
    result[kept] = weights[kept]
    return result / result.sum()
