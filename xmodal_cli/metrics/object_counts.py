"""How many objects of each kind a caption states: "a man and two dogs" has one person and two dogs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from xmodal_cli.function_words import STOP_WORDS
from xmodal_cli.metrics.english_words import NUMBERS, singular
from xmodal_cli.metrics.object_words import COLLECTIVE, mentioned_objects

_DEFINITE = frozenset(("the", "his", "her", "its", "their", "this", "that"))
_ADJECTIVES = frozenset(("little", "large", "small", "similar", "different", "other"))  # in STOP_WORDS
_SAME_PLURAL = frozenset(("sheep", "fish", "deer", "bison"))


def count_objects(words: Sequence[str]) -> dict[str, int]:
    """Class -> number, for the classes whose number the lower-cased words of a caption state.

    The numbers of a class are added: "a man and a woman" are two persons. A singular noun is one, unless it is definite
    and the class occurred before ("the man"). A plural needs a number word: "dogs" and "a group of dogs" state none.
    A noun before another one ("a dog toy", "football players") is not counted.
    """
    mentions = mentioned_objects(words)
    nouns = {position for position, _ in mentions}
    counts: dict[str, int | None] = {}
    for position, name in mentions:
        if position + 1 in nouns:
            continue
        number, before = _number(words, position, nouns, name in counts), counts.get(name, 0)
        counts[name] = None if number is None or before is None else before + number
    return {name: number for name, number in counts.items() if number}


def _number(words: Sequence[str], position: int, nouns: Collection[int], seen: bool) -> int | None:
    """The number of the noun at ``position``; None if unknown, 0 if definite and ``seen`` before."""
    word, first = words[position], _determiner(words, position, nouns)
    if first in NUMBERS:
        return NUMBERS[first]
    if word == "couple" or tuple(words[max(position - 2, 0) : position]) == ("couple", "of"):
        return 2
    if word in COLLECTIVE or word in _SAME_PLURAL or word.endswith("s") or singular(word) != word:
        return None
    return 0 if seen and first in _DEFINITE else 1


def _determiner(words: Sequence[str], position: int, nouns: Collection[int]) -> str:
    """The function word before the noun at ``position`` and its adjectives; "" if another noun is first."""
    is_compound = True
    for before in range(position - 1, -1, -1):
        word, is_compound = words[before], is_compound and before in nouns
        if word in NUMBERS or (word in STOP_WORDS and word not in _ADJECTIVES):
            return word
        if before in nouns and not is_compound:
            return ""
    return ""
