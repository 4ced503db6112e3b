"""Finds words in captions: all words of a query, in any order and case, at the beginning of words of one caption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from xmodal_cli.errors import ConfigError

MAX_QUERY = 200  # characters


@dataclass(frozen=True)
class CaptionWords:
    """The words of a query; without words, every caption matches.

    ``dog`` matches ``dogs`` but not ``hotdog``. Words of scripts without upper and lower case, some of which have no
    spaces between words, match anywhere.
    """

    query: str

    def matches(self, captions: Sequence[str]) -> bool:
        """Whether one of the captions of an image has all words."""
        if not self._patterns:
            return True
        joined = "\n".join(captions).casefold()
        if not all(word in joined for word in self._folded):  # ten times faster than the patterns
            return False
        return any(all(pattern.search(caption) for pattern in self._patterns) for caption in captions)

    def split(self, caption: str) -> list[tuple[str, bool]]:
        """The parts of a caption, and whether each is a word of the query; of a match only the query's part."""
        if self._any_word is None:
            return [(caption, False)]
        parts, end = list[tuple[str, bool]](), 0
        for match in self._any_word.finditer(caption):
            parts += [(caption[end : match.start()], False), (match[0], True)]
            end = match.end()
        return [(text, is_word) for text, is_word in (*parts, (caption[end:], False)) if text]

    @cached_property
    def _words(self) -> list[str]:
        return list(dict.fromkeys(self.query.split()))

    @cached_property
    def _folded(self) -> list[str]:
        return [word.casefold() for word in self._words]

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(_expression(word), re.IGNORECASE) for word in self._words]

    @cached_property
    def _any_word(self) -> re.Pattern[str] | None:
        longest_first = sorted(self._words, key=len, reverse=True)
        return re.compile("|".join(map(_expression, longest_first)), re.IGNORECASE) if longest_first else None


def read_words(query: str) -> CaptionWords:
    """The words of a query. Raises ConfigError for a query that is too long."""
    if len(query) > MAX_QUERY:
        raise ConfigError(f"the query has {len(query):,} characters", f"at most {MAX_QUERY} are allowed")
    return CaptionWords(query)


def _expression(word: str) -> str:
    begins_word = word[0].isdigit() or word[0].lower() != word[0].upper()
    return (r"(?<!\w)" if begins_word else "") + re.escape(word)
