"""Captions that name persons of another gender than all references: "a man" for a photo of a woman."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xmodal_cli.metrics.english_words import check_english, singular
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 84
LABELS = {"wrong_genders": "wrong genders"}
PERCENT = True
LOWER_IS_BETTER = True
_MALE = "man boy guy gentleman male lad father dad son brother husband grandfather groom policeman fisherman cowboy"
_FEMALE = "woman girl lady female mother mom daughter sister wife grandmother bride cheerleader ballerina"
_GENDERS = dict.fromkeys(_MALE.split(), "male") | dict.fromkeys(_FEMALE.split(), "female")


def build() -> CaptionMetric:
    """``wrong_genders``: the fraction of captions that name a gender which no reference names.

    Only photos where a reference names the other gender can be wrong: "a man" is not wrong where all references have "a
    person". Nouns count, pronouns do not ("a dog with its ball in his mouth"). Raises Unavailable if the references are
    not English.
    """
    return _wrong_genders


def _wrong_genders(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    check_english(references)
    wrong = np.array([float(_is_wrong(words, texts)) for words, texts in zip(candidates, references, strict=True)])
    return MetricScores({"wrong_genders": float(wrong.mean())}, {"wrong_genders": wrong})


def _is_wrong(words: Words, references: Sequence[Words]) -> bool:
    named = genders(word for sentence in references for word in sentence)
    return bool(named) and not genders(words) <= named


def genders(words: Iterable[str]) -> set[str]:
    """``male`` and ``female``, as far as the lower-cased words name them."""
    return {_GENDERS[form] for form in map(singular, words) if form in _GENDERS}
