"""The results of a query: photos with ranks and scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hit:
    """A photo in the results. ``rank`` starts at 1; ``score`` is at most 1, and higher is more similar.

    ``score`` is None for a query with filters only.

    ``duplicates`` further files are copies of the photo and have no hits of their own.
    """

    rank: int
    path: str
    score: float | None
    duplicates: int = 0

    @property
    def score_text(self) -> str:
        """The score with four digits, ``-`` if there is none."""
        return "-" if self.score is None else f"{self.score:.4f}"


@dataclass(frozen=True)
class SearchResult:
    """The hits of a query in an index of ``items`` photos, in ``folder``.

    ``vanished`` is the number of photos that were left out because their files no longer exist. ``unknown_words`` are
    the out-of-vocabulary words of the query, which the model maps to one token.
    """

    index: str
    model: str
    similarity: str
    query: tuple[str, ...]
    hits: tuple[Hit, ...]
    items: int
    vanished: int
    unknown_words: tuple[str, ...]
    folder: str = ""
