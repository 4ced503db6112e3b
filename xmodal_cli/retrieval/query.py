"""Parse the terms of a search into weighted sentences and images.

A term is ``[+|-] WORDS-OR-FILE [^WEIGHT]``: ``"two dogs"``, ``+snow``, ``-person``, ``"beach^0.5"``, ``me.jpg``.
A minus sign makes the weight negative; the default weight is 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.errors import ConfigError, MissingData

_WEIGHT = re.compile(r"(?P<text>.*)\^(?P<weight>[^^\s]*)", re.DOTALL)
_HINT = 'for example: xmodal search "two dogs" +snow -person "beach^0.5"'


@dataclass(frozen=True)
class Term:
    """A sentence, or the file ``image``; a term with a negative ``weight`` lowers the scores of its matches."""

    text: str
    weight: float = 1.0
    image: Path | None = None


def parse_terms(words: Sequence[str]) -> tuple[Term, ...]:
    """Parse all terms. Raises ConfigError for an empty or malformed term, MissingData for a missing image file."""
    terms = tuple(parse_term(word) for word in words)
    if not terms:
        raise ConfigError("there is nothing to search for", _HINT)
    return terms


def parse_term(word: str) -> Term:
    """Parse one term. Raises ConfigError, MissingData."""
    sign = -1.0 if word.startswith("-") else 1.0
    text = word[1:] if word.startswith(("+", "-")) else word
    if (image := _image_file(text)) is not None:  # a file called a^2.jpg is that file
        return Term(text, sign, image)
    weight = 1.0
    if (match := _WEIGHT.fullmatch(text)) is not None:
        text, weight = match["text"], _weight(match["weight"], word)
    text = text.strip()
    if not text:
        raise ConfigError(f"the term {word!r} is empty", _HINT)
    image = _image_file(text)
    if image is None and is_image_name(text) and not re.search(r"\s", text):
        raise MissingData(
            f"the image {text} does not exist",
            "check the path: a term with the extension of an image is read as a file",
        )
    return Term(text, sign * weight, image)


def _weight(text: str, word: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0.0 < weight <= 1000.0:
        raise ConfigError(f"the weight in {word!r} must be a number above 0 and at most 1000", _HINT)
    return weight


def _image_file(text: str) -> Path | None:
    """The file at ``text``, if it has the extension of an image or is written as a path; else None."""
    if not (is_image_name(text) or os.sep in text):
        return None
    try:
        path = Path(text).expanduser()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown ~user
        return None
