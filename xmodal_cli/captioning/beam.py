"""Beam search over all images of a batch at once, plain or in diverse groups. Knows no model but by ``step``.

A caption's score is its log-probability by the number of its tokens, the end included, to the power of the length
penalty. At every step an image's candidates, each row with each word after it, are ranked by log-probability. The ends
among the first ``beam`` are finished captions; the first ``beam`` others go on. A caption that has ``max_length`` words
and does not end there is cut, and competes as it is. A beam of one is greedy: its first end is its only caption. The
search for an image stops when nothing that is still written can reach its ``num`` best, so that stopping never changes
the result.

Diverse beams (Vijayakumar et al., arXiv 1610.02424): groups of rows choose one after another. A word loses
``diversity_penalty`` for every row of the groups before that chose it at the same step. That decides what is chosen
and is no part of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xmodal_cli.captioning.beam_history import BeamHistory
from xmodal_cli.captioning.finished import Finished, FinishedBatch
from xmodal_cli.captioning.logits_processor import LogitsProcessor
from xmodal_cli.types import Captioner, Decoding, Hypothesis, SpecialTokens


class Expansion(NamedTuple):
    """The rows that go on, (images, rows) each, best first; ``totals`` are -inf where there are fewer."""

    parents: Tensor
    words: Tensor
    totals: Tensor


def beam_search(
    captioner: Captioner,
    prefilled: tuple[Tensor, Any],
    special_tokens: SpecialTokens,
    settings: Decoding,
    attention: bool,
) -> list[list[Hypothesis]]:
    """At most ``num`` captions for each image, best first, and at least one. ``prefilled`` is what ``prefill`` gave."""
    log_probs, state = prefilled
    search = BeamSearch(log_probs, special_tokens, settings)
    looked: list[Tensor | None] = [state.attention]
    for _ in range(settings.max_length):
        growth = search.grow(log_probs)
        if not bool((growth.totals > -torch.inf).any()):
            break
        log_probs, state = captioner.step(state.select(growth.parents), growth.words)
        looked.append(state.attention)
    else:
        search.cut(log_probs)
    return search.results(looked if attention else [])


class BeamSearch:
    """What is written for all images of a batch, between the captioner's steps."""

    def __init__(self, log_probs: Tensor, special_tokens: SpecialTokens, settings: Decoding) -> None:
        self.settings = settings
        self._rules = LogitsProcessor(special_tokens, settings, log_probs.device)
        self._lineage = BeamHistory(len(log_probs), log_probs.device)
        self._groups = [BeamGroup(special_tokens.eos, settings) for _ in range(settings.num_beam_groups)]
        self._totals = log_probs.new_zeros(len(log_probs), 1)

    def grow(self, log_probs: Tensor) -> Expansion:
        """(images, rows, vocab) of the next word: ends are put aside, and the rows that go on are chosen."""
        grown: list[Expansion] = []
        for group, first, scores in self._shares(log_probs):
            ranked = scores - self._diversity_penalty(grown, scores.shape[-1]) if grown else scores
            grown.append(group.grow(scores, ranked, first, len(self._lineage)))
        growth = Expansion(*(torch.cat(parts, dim=1) for parts in zip(*grown, strict=True)))
        is_done = [group.finished.is_done(own.totals) for group, own in zip(self._groups, grown, strict=True)]
        self._totals = growth.totals.masked_fill(torch.stack(is_done).all(0)[:, None], -torch.inf)
        self._lineage.add(growth.parents, growth.words)
        return growth._replace(totals=self._totals)

    def cut(self, log_probs: Tensor) -> None:
        """The last step: rows that have all the words they may either end now or are cut."""
        for group, first, scores in self._shares(log_probs):
            totals = self._totals[:, first : first + scores.shape[1]]
            group.cut(scores, totals, first, len(self._lineage))

    def results(self, looked: list[Tensor | None]) -> list[list[Hypothesis]]:
        """The captions; with what each step looked at, (images, rows, cells), their attention too."""
        best = [group.finished.best for group in self._groups]
        offers = FinishedBatch(*(torch.cat(parts, dim=1) for parts in zip(*best, strict=True)))
        words, trail = self._lineage.trace(offers.rows, offers.lengths)
        attention = _followed(looked, trail)
        found = []
        for image, (scores, log_probs, _, lengths, ended, tokens) in enumerate(
            zip(*(part.tolist() for part in (*offers, words)), strict=True)
        ):
            captions = []
            for n, length in enumerate(lengths):
                maps = None if attention is None else attention[image, n, :length].clone()
                captions.append(Hypothesis(tuple(tokens[n][:length]), scores[n], log_probs[n], bool(ended[n]), maps))
            found.append(_merge_groups(captions, [part.scores.shape[1] for part in best], self.settings.num))
        return found

    def _diversity_penalty(self, grown: list[Expansion], vocab_size: int) -> Tensor:
        """What words lose for being chosen by the groups before, (images, 1, vocab)."""
        words, totals = (torch.cat(parts, dim=1) for parts in list(zip(*grown, strict=True))[1:])
        strength = (totals > -torch.inf).to(totals) * self.settings.diversity_penalty
        return totals.new_zeros(len(totals), vocab_size).scatter_add_(1, words, strength)[:, None]

    def _shares(self, log_probs: Tensor) -> Iterator[tuple[BeamGroup, int, Tensor]]:
        """Each group with its first row and the scores of its candidates, (images, rows, vocab)."""
        words = self._lineage.words() if self.settings.no_repeat_ngram_size else None
        scores = self._rules.allowed(log_probs, len(self._lineage), words).add_(self._totals[..., None])
        rows = scores.shape[1] // len(self._groups)
        for number, group in enumerate(self._groups):
            first = number * rows if len(self._lineage) else 0  # all begin with the same row
            yield group, first, scores[:, first : first + max(rows, 1)]


class BeamGroup:
    """The rows that choose together, of every image; without diversity all rows are one group."""

    def __init__(self, end: int, settings: Decoding) -> None:
        self.end, self.width = end, settings.beam // settings.num_beam_groups
        self.finished = Finished(settings)

    def grow(self, scores: Tensor, ranked: Tensor, first: int, length: int) -> Expansion:
        """(images, rows, vocab) scores of its rows, the image's row ``first`` being their first; and how they rank."""
        places = ranked.flatten(1).topk(min(2 * self.width, ranked[0].numel())).indices
        totals = scores.flatten(1).gather(1, places)
        parents, words = places // scores.shape[-1] + first, places % scores.shape[-1]
        ends = words == self.end
        enders = totals.masked_fill(~ends, -torch.inf)[:, : self.width]
        self.finished.offer(enders, parents[:, : self.width], length, ended=True)
        onward = ends.int().argsort(dim=1, stable=True)[:, : self.width]  # what does not end, in order
        totals = totals.masked_fill(ends, -torch.inf).gather(1, onward)
        if self.width == 1:  # greedy
            totals = totals.masked_fill(self.finished.best.scores[:, :1] > -torch.inf, -torch.inf)
        return Expansion(parents.gather(1, onward), words.gather(1, onward), totals)

    def cut(self, scores: Tensor, totals: Tensor, first: int, length: int) -> None:
        """``totals`` (images, rows) is what the rows have without the next word, ``scores`` with it."""
        rows = torch.arange(first, first + totals.shape[1], device=totals.device).expand_as(totals)
        least = scores.flatten(1).topk(min(self.width, scores[0].numel())).values[:, -1:]
        ends = scores[..., self.end]
        ending = (ends >= least) & (ends > -torch.inf)
        self.finished.offer(ends.masked_fill(~ending, -torch.inf), rows, length, ended=True)
        self.finished.offer(totals.masked_fill(ending, -torch.inf), rows, length, ended=False)


def _followed(looked: list[Tensor | None], trail: Tensor) -> Tensor | None:
    """What each step looked at, by the rows of ``trail`` (images, n, longest) -> (images, n, longest, cells)."""
    maps = [each for each in looked if each is not None]
    if not looked or len(maps) < len(looked):
        return None
    images = torch.arange(len(trail), device=trail.device)[:, None]
    steps = [maps[place][images, trail[..., place]] for place in range(trail.shape[-1])]
    return torch.stack(steps, dim=2).cpu() if steps else None


def _merge_groups(captions: list[Hypothesis], sizes: list[int], num: int) -> list[Hypothesis]:
    """The best of all groups, then their second ones, until there are ``num`` different ones; best first.

    ``captions`` holds ``sizes`` of each group, one group after another, each best first.
    """
    place = [rank for size in sizes for rank in range(size)]
    order = sorted(range(len(captions)), key=lambda n: (place[n], -captions[n].score))
    distinct: dict[tuple[int, ...], Hypothesis] = {}
    for n in order:
        if captions[n].score > -torch.inf:
            distinct.setdefault(captions[n].tokens, captions[n])
    return sorted(list(distinct.values())[:num], key=lambda caption: -caption.score)
