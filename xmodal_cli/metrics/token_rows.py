"""Token ids of many sentences concatenated in one array, the input of the compiled metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

Words = Sequence[str]
Tokens = Sequence[int]


@dataclass(frozen=True)
class Rows:
    """Sentences: row ``r`` is ``words[starts[r]:starts[r + 1]]``; both int64."""

    words: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, sentences: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None) -> Rows:
        """From lists of token ids, or from a padded (sentences, longest) array and its (sentences,) lengths.

        Raises ValueError for a negative id.
        """
        if lengths is not None:
            padded, sizes = np.asarray(sentences), np.asarray(lengths, np.int64)
            words = padded[np.arange(padded.shape[1]) < sizes[:, None]].astype(np.int64)
        else:
            sizes = np.fromiter(map(len, sentences), np.int64, count=len(sentences))
            words = np.fromiter(chain.from_iterable(sentences), np.int64, count=int(sizes.sum()))
        if words.min(initial=0) < 0:
            raise ValueError(f"token ids must be at least 0, not {words.min()}")
        return cls(words, np.concatenate(([0], np.cumsum(sizes))).astype(np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int64 numbers of tokens."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class References:
    """The references of all images: image ``i`` has the rows ``firsts[i]`` to ``firsts[i + 1]``, exclusive."""

    rows: Rows
    firsts: np.ndarray

    @classmethod
    def of(cls, references: Sequence[Sequence[Tokens]]) -> References:
        """From one list of references per image. Raises ValueError for an image without references."""
        counts = np.fromiter(map(len, references), np.int64, count=len(references))
        if not counts.all():
            raise ValueError(f"image {int(np.argmin(counts))} (from 0) has no references")
        firsts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return cls(Rows.of(list(chain.from_iterable(references))), firsts)

    @property
    def image_of_row(self) -> np.ndarray:
        """(rows,) int64 image indices."""
        return np.repeat(np.arange(len(self.firsts) - 1), np.diff(self.firsts))


class WordIds:
    """Assigns ids to words in order of first appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def encode(self, sentences: Sequence[Words]) -> list[list[int]]:
        """One list of ids per sentence."""
        ids = self._ids
        return [[ids.setdefault(word, len(ids)) for word in sentence] for sentence in sentences]

    def encode_references(self, references: Sequence[Sequence[Words]]) -> References:
        """The references of each image. Raises ValueError for an image without references."""
        return References.of([self.encode(sentences) for sentences in references])


def check_pairs(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    """Raise ValueError unless there is one candidate per image, and at least one image."""
    if len(candidates) != len(references) or not candidates:
        raise ValueError(f"{len(candidates)} candidates for {len(references)} images: give one candidate per image")
