"""The n-best finished captions of a beam search, and the rules for early stopping."""

from __future__ import annotations

from typing import Any, NamedTuple

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.types import Decoding


class FinishedBatch(NamedTuple):
    """Captions, (images, n) per field: the beam row and the number of tokens of each; padding has a score of -inf."""

    scores: Any
    log_probs: Any
    rows: Any
    lengths: Any
    ended: Any  # 1 or 0


class Finished:
    """The best ``num`` finished captions of each image so far; heuristic early stopping needs at least ``beam``."""

    def __init__(self, settings: Decoding, beam: int) -> None:
        self.num, self.length_penalty = settings.num, settings.length_penalty
        self._is_exact = settings.early_stopping == "exact"
        self._num_kept = self.num if self._is_exact else max(self.num, beam)
        self._max_tokens = settings.max_length + 1  # with EOS
        self._best: FinishedBatch | None = None

    def add(self, log_probs: Any, rows: Any, length: int, ended: bool) -> None:
        """(images, n) captions of ``length`` tokens without EOS; padding has a log-probability of -inf."""
        library = library_of(log_probs)
        scores = log_probs / float((length + ended) ** self.length_penalty)
        new = FinishedBatch(scores, log_probs, rows, rows * 0 + length, rows * 0 + int(ended))
        merged = new if self._best is None else [library.concat(pair, 1) for pair in zip(self._best, new, strict=True)]
        order = library.stable_argsort(merged[0], descending=True)[:, : self._num_kept]  # ties: the earlier caption
        self._best = FinishedBatch(*(library.take(part, order, 1) for part in merged))

    @property
    def best(self) -> FinishedBatch:
        """At most ``num`` captions, best first. Requires a previous ``add``."""
        assert self._best is not None
        return FinishedBatch(*(part[:, : self.num] for part in self._best))

    def is_done(self, totals: Any, length: int) -> Any:
        """(images, rows) log-probabilities of hypotheses of ``length`` tokens -> (images,) bool: the search can end.

        A hypothesis only loses probability, and its length is at most ``max_length`` and EOS: this bounds its score.
        The heuristic, ``early_stopping=False`` of ``generate`` in transformers, divides by the present length instead.
        """
        assert self._best is not None
        divisor = float((self._max_tokens if self._is_exact else length) ** self.length_penalty)
        bound, scores = library_of(totals).amax(totals, 1) / divisor, self._best.scores
        return scores[:, -1] >= bound if scores.shape[1] == self._num_kept else bound == -float("inf")
