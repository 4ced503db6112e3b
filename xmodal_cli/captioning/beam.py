"""Beam search over all images of a batch at once, plain or diverse. Uses only ``step`` and ``select`` of a captioner.

The score of a caption is its log-probability divided by its number of tokens, EOS included, to the power of the length
penalty. At every step, the candidates of an image (each hypothesis with each next token) are ranked by log-probability.
EOS candidates among the first ``beam`` are finished captions; the first ``beam`` others are expanded. A hypothesis of
``max_length`` tokens that does not end there is cut, and competes as it is. A beam size of 1 is greedy: the first EOS
ends the search. The search for an image stops when no unfinished hypothesis can be among its ``num`` best, which is
exact, or by the heuristic of ``generate`` in transformers (``early_stopping``).

Diverse beam search (Vijayakumar et al., arXiv 1610.02424): groups of hypotheses are expanded one after the other. A
token loses ``diversity`` per hypothesis of an earlier group that chose it at the same step. The penalty affects the
choice and is not part of the score.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.captioning.beam_history import BeamHistory
from xmodal_cli.captioning.finished import Finished, FinishedBatch
from xmodal_cli.captioning.logits_processor import IMPOSSIBLE, LogitsProcessor
from xmodal_cli.types import Captioner, Decoding, Hypothesis, SpecialTokens


class Expansion(NamedTuple):
    """The next hypotheses, (images, rows) per field, best first; padding has ``totals`` of -inf."""

    parents: Any
    tokens: Any
    totals: Any


def beam_search(
    captioner: Captioner,
    prefilled: tuple[Any, Any],
    special_tokens: SpecialTokens,
    settings: Decoding,
    attention: bool,
) -> list[list[Hypothesis]]:
    """From one to ``num`` captions per image, best first. ``prefilled`` is the result of ``prefill``."""
    log_probs, state = prefilled
    search = BeamSearch(log_probs, special_tokens, settings)
    attention_steps: list[Any] = [state.attention]
    for _ in range(settings.max_length):
        expansion = search.expand(log_probs)
        if not bool((expansion.totals > IMPOSSIBLE).any()):
            break
        log_probs, state = captioner.step(state.select(expansion.parents), expansion.tokens)
        attention_steps.append(state.attention)
    else:
        search.cut(log_probs)
    return search.results(attention_steps if attention else [])


class BeamSearch:
    """The hypotheses of all images of a batch. The captioner runs between two calls of ``expand``."""

    def __init__(self, log_probs: Any, special_tokens: SpecialTokens, settings: Decoding) -> None:
        self.settings = settings
        self._library = library_of(log_probs)
        self._logits_processor = LogitsProcessor(special_tokens, settings)
        self._history = BeamHistory(len(log_probs), log_probs)
        self._groups = [BeamGroup(special_tokens.eos, settings) for _ in range(settings.num_beam_groups)]
        self._totals = self._library.zeros((len(log_probs), 1), log_probs)

    def expand(self, log_probs: Any) -> Expansion:
        """(images, rows, vocab) of the next token: record finished captions and select the next hypotheses."""
        expansions: list[Expansion] = []
        for group, first_row, scores in self._candidates(log_probs):
            ranking = scores - self._diversity_penalty(expansions, scores.shape[-1]) if expansions else scores
            expansions.append(group.expand(scores, ranking, first_row, len(self._history)))
        expansion = Expansion(*(self._library.concat(parts, 1) for parts in zip(*expansions, strict=True)))
        length = len(self._history) + 1
        pairs = zip(self._groups, expansions, strict=True)
        is_done = [group.finished.is_done(part.totals, length) for group, part in pairs]
        all_done = self._library.stack(is_done, 0).all(0)[:, None]
        self._totals = self._library.where(all_done, IMPOSSIBLE, expansion.totals)
        self._history.add(expansion.parents, expansion.tokens)
        return expansion._replace(totals=self._totals)

    def cut(self, log_probs: Any) -> None:
        """The last step, for hypotheses of ``max_length`` tokens: each ends with EOS or is cut."""
        for group, first_row, scores in self._candidates(log_probs):
            totals = self._totals[:, first_row : first_row + scores.shape[1]]
            group.cut(scores, totals, first_row, len(self._history))

    def results(self, attention_steps: list[Any]) -> list[list[Hypothesis]]:
        """The captions, with attention if ``attention_steps``, one (images, rows, cells) per step, is not empty."""
        best = [group.finished.best for group in self._groups]
        finished = FinishedBatch(*(self._library.concat(parts, 1) for parts in zip(*best, strict=True)))
        token_ids, parents = self._history.trace(finished.rows, finished.lengths)
        attention = _gather_attention(attention_steps, parents)
        sizes = [part.scores.shape[1] for part in best]
        results = []
        for image, (scores, log_probs, _, lengths, ended, tokens) in enumerate(
            zip(*(part.tolist() for part in (*finished, token_ids)), strict=True)
        ):
            captions = []
            for n, length in enumerate(lengths):
                weights = None if attention is None else attention[image, n, :length].copy()
                captions.append(Hypothesis(tuple(tokens[n][:length]), scores[n], log_probs[n], bool(ended[n]), weights))
            results.append(_merge_groups(captions, sizes, self.settings.num))
        return results

    def _diversity_penalty(self, expansions: list[Expansion], vocab_size: int) -> Any:
        """(images, 1, vocab): the penalty of tokens that earlier groups chose at this step."""
        tokens, totals = (self._library.concat(parts, 1) for parts in list(zip(*expansions, strict=True))[1:])
        penalty = self._library.to_floats(totals > IMPOSSIBLE, totals) * self.settings.diversity_penalty
        zeros = self._library.zeros((len(totals), vocab_size), totals)
        return self._library.add_at(zeros, tokens, penalty)[:, None]

    def _candidates(self, log_probs: Any) -> Iterator[tuple[BeamGroup, int, Any]]:
        """Each group with its first row and the total log-probabilities of its candidates, (images, rows, vocab)."""
        tokens = self._history.tokens() if self.settings.no_repeat_ngram_size else None
        scores = self._logits_processor.process(log_probs, len(self._history), tokens) + self._totals[..., None]
        num_rows = scores.shape[1] // len(self._groups)
        for index, group in enumerate(self._groups):
            first_row = index * num_rows if len(self._history) else 0  # all groups start from the same row
            yield group, first_row, scores[:, first_row : first_row + max(num_rows, 1)]


class BeamGroup:
    """A group of a diverse beam search; a plain beam search has one group."""

    def __init__(self, eos: int, settings: Decoding) -> None:
        self.eos, self.beam = eos, settings.beam // settings.num_beam_groups
        self.finished = Finished(settings, self.beam)

    def expand(self, scores: Any, ranking: Any, first_row: int, length: int) -> Expansion:
        """Expand by the order of ``ranking``; ``scores`` and ``ranking`` are (images, rows, vocab) of this group."""
        library = library_of(scores)
        candidates, ranked = (part.reshape(len(part), -1) for part in (scores, ranking))
        indices = library.top_indices(ranked, min(2 * self.beam, ranked.shape[1]))
        totals = library.take(candidates, indices, 1)
        parents, tokens = indices // scores.shape[-1] + first_row, indices % scores.shape[-1]
        is_eos = tokens == self.eos
        finished = library.where(is_eos, totals, IMPOSSIBLE)[:, : self.beam]
        self.finished.add(finished, parents[:, : self.beam], length, ended=True)
        unfinished = library.stable_argsort(library.to_integers(is_eos))[:, : self.beam]  # in the order of the ranking
        totals = library.take(library.where(is_eos, IMPOSSIBLE, totals), unfinished, 1)
        if self.beam == 1:  # greedy
            totals = library.where(self.finished.best.scores[:, :1] > IMPOSSIBLE, IMPOSSIBLE, totals)
        return Expansion(library.take(parents, unfinished, 1), library.take(tokens, unfinished, 1), totals)

    def cut(self, scores: Any, totals: Any, first_row: int, length: int) -> None:
        """``totals`` (images, rows) are log-probabilities without the next token, ``scores`` with it."""
        library = library_of(scores)
        row_numbers = library.integers(list(range(first_row, first_row + totals.shape[1])), totals)
        rows = library.broadcast_to(row_numbers, totals.shape)
        candidates = scores.reshape(len(scores), -1)
        lowest = library.top_indices(candidates, min(self.beam, candidates.shape[1]))[:, -1:]
        eos_totals = scores[..., self.eos]
        is_eos = (eos_totals >= library.take(candidates, lowest, 1)) & (eos_totals > IMPOSSIBLE)
        self.finished.add(library.where(is_eos, eos_totals, IMPOSSIBLE), rows, length, ended=True)
        self.finished.add(library.where(is_eos, IMPOSSIBLE, totals), rows, length, ended=False)


def _gather_attention(attention_steps: list[Any], parents: Any) -> np.ndarray | None:
    """(images, rows, cells) per step, and ``parents`` (images, n, longest) -> (images, n, longest, cells) float32."""
    weights = [step for step in attention_steps if step is not None]
    if not attention_steps or len(weights) < len(attention_steps):
        return None
    library = library_of(parents)
    steps = [library.take(weights[step], parents[..., step, None], 1) for step in range(parents.shape[-1])]
    return library.to_numpy(library.stack(steps, 2)) if steps else None


def _merge_groups(captions: list[Hypothesis], sizes: list[int], num: int) -> list[Hypothesis]:
    """The best caption of each group, then the second best of each, until there are ``num`` distinct; best first.

    ``captions`` has ``sizes`` captions per group, group by group, each best first.
    """
    ranks = [rank for size in sizes for rank in range(size)]
    order = sorted(range(len(captions)), key=lambda n: (ranks[n], -captions[n].score))
    distinct: dict[tuple[int, ...], Hypothesis] = {}
    for n in order:
        if captions[n].score > IMPOSSIBLE:
            distinct.setdefault(captions[n].tokens, captions[n])
    return sorted(list(distinct.values())[:num], key=lambda caption: -caption.score)
