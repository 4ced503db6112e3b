"""Decoding written out for one image at a time with lists, as the documents say it: what ours has to equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from helpers.table_captioner import END, START, TableCaptioner
from xmodal_cli.types import Decoding

NEVER = (0, 2)


@dataclass(frozen=True)
class Written:
    tokens: tuple[int, ...]
    log_prob: float
    ended: bool
    score: float


def repeats(words: tuple[int, ...], size: int) -> bool:
    runs = [words[n : n + size] for n in range(len(words) - size + 1)]
    return len(set(runs)) < len(runs)


def next_words(model: TableCaptioner, image: int, words: tuple[int, ...], settings: Decoding) -> dict[int, float]:
    """What may follow, and its log-probability."""
    log_probs = model.look_up(image, (START, *words))[0]
    allowed = {}
    for token in range(model.vocab_size):
        if token in NEVER or (token == END and len(words) < settings.min_length):
            continue
        if token != END and settings.no_repeat_ngram_size and repeats((*words, token), settings.no_repeat_ngram_size):
            continue
        allowed[token] = float(log_probs[token])
    return allowed or {END: float(log_probs[END])}


def scored(words: tuple[int, ...], log_prob: float, ended: bool, settings: Decoding) -> Written:
    return Written(words, log_prob, ended, log_prob / (len(words) + ended) ** settings.length_penalty)


def every_caption(model: TableCaptioner, image: int, settings: Decoding) -> list[Written]:
    """All captions there are that end, best first."""

    def grown(words: tuple[int, ...], log_prob: float) -> Iterator[Written]:
        for token, gained in next_words(model, image, words, settings).items():
            if token == END:
                yield scored(words, log_prob + gained, True, settings)
            elif len(words) < settings.max_length:
                yield from grown((*words, token), log_prob + gained)

    return sorted(grown((), 0.0), key=lambda w: -w.score)


def greedy(model: TableCaptioner, image: int, settings: Decoding) -> Written:
    words: tuple[int, ...] = ()
    total = 0.0
    while True:
        token, gained = max(next_words(model, image, words, settings).items(), key=lambda item: item[1])
        if token == END:
            return scored(words, total + gained, True, settings)
        if len(words) == settings.max_length:
            return scored(words, total, False, settings)
        words, total = (*words, token), total + gained


def beam(model: TableCaptioner, image: int, settings: Decoding) -> list[Written]:
    """Beam search in groups that never stops before ``max_length``."""
    width = settings.beam // settings.num_beam_groups
    live: list[list[tuple[tuple[int, ...], float]]] = [[((), 0.0)] for _ in range(settings.num_beam_groups)]
    done: list[list[Written]] = [[] for _ in range(settings.num_beam_groups)]
    for length in range(settings.max_length + 1):
        chosen: list[int] = []
        for group in range(settings.num_beam_groups):
            pushes = chosen if length < settings.max_length else []
            options = [
                (total + gained - (settings.diversity_penalty * pushes.count(token)), total + gained, words, token)
                for words, total in live[group]
                for token, gained in next_words(model, image, words, settings).items()
            ]
            options.sort(key=lambda option: -option[0])
            ending = [option for option in options[:width] if option[3] == END]
            done[group] += [scored(words, total, True, settings) for _, total, words, _ in ending]
            if length == settings.max_length:
                ended = {words for _, _, words, _ in ending}
                done[group] += [scored(w, total, False, settings) for w, total in live[group] if w not in ended]
            going = [option for option in options if option[3] != END][:width]
            live[group] = [((*words, token), total) for _, total, words, token in going]
            if width == 1 and done[group]:
                live[group] = []
            chosen += [words[-1] for words, _ in live[group]]
    return in_turn([sorted(group, key=lambda w: -w.score)[: settings.num] for group in done], settings.num)


def in_turn(groups: list[list[Written]], num: int) -> list[Written]:
    picked: list[Written] = []
    for rank in range(num):
        for written in sorted((group[rank] for group in groups if rank < len(group)), key=lambda w: -w.score):
            if len(picked) < num and written.tokens not in [p.tokens for p in picked]:
                picked.append(written)
    return sorted(picked, key=lambda w: -w.score)


def chances(log_probs: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """(vocab,) -> what sampling draws from."""
    warm = np.exp(log_probs.astype(np.float64) / temperature)
    order = np.argsort(-warm)
    order = order[: top_k or None]
    shares = warm[order] / warm[order].sum()
    kept, mass = [], 0.0
    for place, share in zip(order, shares, strict=True):
        if mass < top_p:
            kept.append(place)
        mass += share
    result = np.zeros_like(warm)
    result[kept] = warm[kept]
    return result / result.sum()
