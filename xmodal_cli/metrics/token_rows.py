"""Sentences as numbers, one after another in one array: what the compiled metrics read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

Words = Sequence[str]
Tokens = Sequence[int]


@dataclass(frozen=True)
class Rows:
    """Row ``r`` is ``words[starts[r]:starts[r + 1]]``; all int64."""

    words: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, sentences: Sequence[Tokens] | np.ndarray, lengths: np.ndarray | None = None) -> Rows:
        """From lists of numbers, or from a padded (sentences, longest) array and its (sentences,) lengths.

        Raises ValueError for a number below 0.
        """
        if lengths is not None:
            padded, sizes = np.asarray(sentences), np.asarray(lengths, np.int64)
            words = padded[np.arange(padded.shape[1]) < sizes[:, None]].astype(np.int64)
        else:
            sizes = np.fromiter(map(len, sentences), np.int64, count=len(sentences))
            words = np.fromiter(chain.from_iterable(sentences), np.int64, count=int(sizes.sum()))
        if words.min(initial=0) < 0:
            raise ValueError(f"tokens are numbers from 0, not {words.min()}")
        return cls(words, np.concatenate(([0], np.cumsum(sizes))).astype(np.int64))

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int64."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class References:
    """The references of all images: those of image ``i`` are the rows from ``firsts[i]`` to ``firsts[i + 1]``."""

    rows: Rows
    firsts: np.ndarray

    @classmethod
    def of(cls, references: Sequence[Sequence[Tokens]]) -> References:
        """From the lists of each image. Raises ValueError where an image has none."""
        counts = np.fromiter(map(len, references), np.int64, count=len(references))
        if not counts.all():
            raise ValueError(f"image {int(np.argmin(counts))} (from 0) has no reference")
        firsts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return cls(Rows.of(list(chain.from_iterable(references))), firsts)

    @property
    def image_of_row(self) -> np.ndarray:
        """(rows,) int64."""
        return np.repeat(np.arange(len(self.firsts) - 1), np.diff(self.firsts))


class Numbering:
    """Gives every new word the next number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def sentences(self, sentences: Sequence[Words]) -> list[list[int]]:
        """One list of numbers for each sentence."""
        numbers = self._numbers
        return [[numbers.setdefault(word, len(numbers)) for word in sentence] for sentence in sentences]

    def references(self, references: Sequence[Sequence[Words]]) -> References:
        """The references of each image. Raises ValueError where an image has none."""
        return References.of([self.sentences(those) for those in references])


def check_pairs(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    """Raise ValueError where there is no candidate, or not one for each image."""
    if len(candidates) != len(references) or not candidates:
        raise ValueError(f"{len(candidates)} candidates for {len(references)} images: one for each image is needed")
