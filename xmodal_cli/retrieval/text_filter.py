"""The filters among the terms of a search: ``name:beach``, ``-caption:"red car"``."""

from __future__ import annotations

from dataclasses import dataclass

from xmodal_cli.errors import ConfigError

FIELDS = ("name", "caption")


@dataclass(frozen=True)
class TextFilter:
    """Text that the ``field`` of a photo contains, or, if ``negative``, does not contain."""

    field: str
    text: str
    negative: bool = False


def parse_text_filter(word: str) -> TextFilter | None:
    """The filter ``[-]name:TEXT`` or ``[-]caption:TEXT``; None for another term. Raises ConfigError without text."""
    negative = word.startswith("-")
    name, colon, text = word.removeprefix("-").lstrip().partition(":")
    if not colon or name not in FIELDS:
        return None
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    if not text:
        raise ConfigError(f"the filter {word!r} has no text", f"for example: {name}:beach")
    return TextFilter(name, text, negative)
