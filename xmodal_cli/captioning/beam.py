"""Beam search over all images of a batch at once, plain or diverse. Uses only ``step`` and ``select`` of a captioner.

The score of a caption is its log-probability divided by its number of tokens, EOS included, to the power of the length
penalty. At every step, the candidates of an image (each hypothesis with each next token) are ranked by log-probability.
EOS candidates among the first ``beam`` are finished captions; the first ``beam`` others are expanded. A hypothesis of
``max_length`` tokens that does not end there is cut, and competes as it is. A beam size of 1 is greedy: the first EOS
ends the search. The search for an image stops when no unfinished hypothesis can be among its ``num`` best: early
termination is exact.

Diverse beam search (Vijayakumar et al., arXiv 1610.02424): groups of hypotheses are expanded one after the other. A
token loses ``diversity`` per hypothesis of an earlier group that chose it at the same step. The penalty affects the
choice and is not part of the score.
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
    """The next hypotheses, (images, rows) per field, best first; padding has ``totals`` of -inf."""

    parents: Tensor
    tokens: Tensor
    totals: Tensor


def beam_search(
    captioner: Captioner,
    prefilled: tuple[Tensor, Any],
    special_tokens: SpecialTokens,
    settings: Decoding,
    attention: bool,
) -> list[list[Hypothesis]]:
    """From one to ``num`` captions per image, best first. ``prefilled`` is the result of ``prefill``."""
    log_probs, state = prefilled
    search = BeamSearch(log_probs, special_tokens, settings)
    attention_steps: list[Tensor | None] = [state.attention]
    for _ in range(settings.max_length):
        expansion = search.expand(log_probs)
        if not bool((expansion.totals > -torch.inf).any()):
            break
        log_probs, state = captioner.step(state.select(expansion.parents), expansion.tokens)
        attention_steps.append(state.attention)
    else:
        search.cut(log_probs)
    return search.results(attention_steps if attention else [])


class BeamSearch:
    """The hypotheses of all images of a batch. The captioner runs between two calls of ``expand``."""

    def __init__(self, log_probs: Tensor, special_tokens: SpecialTokens, settings: Decoding) -> None:
        self.settings = settings
        self._logits_processor = LogitsProcessor(special_tokens, settings, log_probs.device)
        self._history = BeamHistory(len(log_probs), log_probs.device)
        self._groups = [BeamGroup(special_tokens.eos, settings) for _ in range(settings.num_beam_groups)]
        self._totals = log_probs.new_zeros(len(log_probs), 1)

    def expand(self, log_probs: Tensor) -> Expansion:
        """(images, rows, vocab) of the next token: record finished captions and select the next hypotheses."""
        expansions: list[Expansion] = []
        for group, first_row, scores in self._candidates(log_probs):
            ranking = scores - self._diversity_penalty(expansions, scores.shape[-1]) if expansions else scores
            expansions.append(group.expand(scores, ranking, first_row, len(self._history)))
        expansion = Expansion(*(torch.cat(parts, dim=1) for parts in zip(*expansions, strict=True)))
        is_done = [group.finished.is_done(part.totals) for group, part in zip(self._groups, expansions, strict=True)]
        self._totals = expansion.totals.masked_fill(torch.stack(is_done).all(0)[:, None], -torch.inf)
        self._history.add(expansion.parents, expansion.tokens)
        return expansion._replace(totals=self._totals)

    def cut(self, log_probs: Tensor) -> None:
        """The last step, for hypotheses of ``max_length`` tokens: each ends with EOS or is cut."""
        for group, first_row, scores in self._candidates(log_probs):
            totals = self._totals[:, first_row : first_row + scores.shape[1]]
            group.cut(scores, totals, first_row, len(self._history))

    def results(self, attention_steps: list[Tensor | None]) -> list[list[Hypothesis]]:
        """The captions, with attention if ``attention_steps``, one (images, rows, cells) per step, is not empty."""
        best = [group.finished.best for group in self._groups]
        finished = FinishedBatch(*(torch.cat(parts, dim=1) for parts in zip(*best, strict=True)))
        token_ids, parents = self._history.trace(finished.rows, finished.lengths)
        attention = _gather_attention(attention_steps, parents)
        sizes = [part.scores.shape[1] for part in best]
        results = []
        for image, (scores, log_probs, _, lengths, ended, tokens) in enumerate(
            zip(*(part.tolist() for part in (*finished, token_ids)), strict=True)
        ):
            captions = []
            for n, length in enumerate(lengths):
                weights = None if attention is None else attention[image, n, :length].clone()
                captions.append(Hypothesis(tuple(tokens[n][:length]), scores[n], log_probs[n], bool(ended[n]), weights))
            results.append(_merge_groups(captions, sizes, self.settings.num))
        return results

    def _diversity_penalty(self, expansions: list[Expansion], vocab_size: int) -> Tensor:
        """(images, 1, vocab): the penalty of tokens that earlier groups chose at this step."""
        tokens, totals = (torch.cat(parts, dim=1) for parts in list(zip(*expansions, strict=True))[1:])
        penalty = (totals > -torch.inf).to(totals) * self.settings.diversity_penalty
        return totals.new_zeros(len(totals), vocab_size).scatter_add_(1, tokens, penalty)[:, None]

    def _candidates(self, log_probs: Tensor) -> Iterator[tuple[BeamGroup, int, Tensor]]:
        """Each group with its first row and the total log-probabilities of its candidates, (images, rows, vocab)."""
        tokens = self._history.tokens() if self.settings.no_repeat_ngram_size else None
        scores = self._logits_processor.process(log_probs, len(self._history), tokens).add_(self._totals[..., None])
        num_rows = scores.shape[1] // len(self._groups)
        for index, group in enumerate(self._groups):
            first_row = index * num_rows if len(self._history) else 0  # all groups start from the same row
            yield group, first_row, scores[:, first_row : first_row + max(num_rows, 1)]


class BeamGroup:
    """A group of a diverse beam search; a plain beam search has one group."""

    def __init__(self, eos: int, settings: Decoding) -> None:
        self.eos, self.beam = eos, settings.beam // settings.num_beam_groups
        self.finished = Finished(settings)

    def expand(self, scores: Tensor, ranking: Tensor, first_row: int, length: int) -> Expansion:
        """Expand by the order of ``ranking``; ``scores`` and ``ranking`` are (images, rows, vocab) of this group."""
        indices = ranking.flatten(1).topk(min(2 * self.beam, ranking[0].numel())).indices
        totals = scores.flatten(1).gather(1, indices)
        parents, tokens = indices // scores.shape[-1] + first_row, indices % scores.shape[-1]
        is_eos = tokens == self.eos
        finished = totals.masked_fill(~is_eos, -torch.inf)[:, : self.beam]
        self.finished.add(finished, parents[:, : self.beam], length, ended=True)
        unfinished = is_eos.int().argsort(dim=1, stable=True)[:, : self.beam]  # in the order of the ranking
        totals = totals.masked_fill(is_eos, -torch.inf).gather(1, unfinished)
        if self.beam == 1:  # greedy
            totals = totals.masked_fill(self.finished.best.scores[:, :1] > -torch.inf, -torch.inf)
        return Expansion(parents.gather(1, unfinished), tokens.gather(1, unfinished), totals)

    def cut(self, scores: Tensor, totals: Tensor, first_row: int, length: int) -> None:
        """``totals`` (images, rows) are log-probabilities without the next token, ``scores`` with it."""
        rows = torch.arange(first_row, first_row + totals.shape[1], device=totals.device).expand_as(totals)
        threshold = scores.flatten(1).topk(min(self.beam, scores[0].numel())).values[:, -1:]
        eos_totals = scores[..., self.eos]
        is_eos = (eos_totals >= threshold) & (eos_totals > -torch.inf)
        self.finished.add(eos_totals.masked_fill(~is_eos, -torch.inf), rows, length, ended=True)
        self.finished.add(totals.masked_fill(is_eos, -torch.inf), rows, length, ended=False)


def _gather_attention(attention_steps: list[Tensor | None], parents: Tensor) -> Tensor | None:
    """(images, rows, cells) per step, and ``parents`` (images, n, longest) -> (images, n, longest, cells)."""
    weights = [step for step in attention_steps if step is not None]
    if not attention_steps or len(weights) < len(attention_steps):
        return None
    images = torch.arange(len(parents), device=parents.device)[:, None]
    steps = [weights[step][images, parents[..., step]] for step in range(parents.shape[-1])]
    return torch.stack(steps, dim=2).cpu() if steps else None


def _merge_groups(captions: list[Hypothesis], sizes: list[int], num: int) -> list[Hypothesis]:
    """The best caption of each group, then the second best of each, until there are ``num`` distinct; best first.

    ``captions`` has ``sizes`` captions per group, group by group, each best first.
    """
    ranks = [rank for size in sizes for rank in range(size)]
    order = sorted(range(len(captions)), key=lambda n: (ranks[n], -captions[n].score))
    distinct: dict[tuple[int, ...], Hypothesis] = {}
    for n in order:
        if captions[n].score > -torch.inf:
            distinct.setdefault(captions[n].tokens, captions[n])
    return sorted(list(distinct.values())[:num], key=lambda caption: -caption.score)
