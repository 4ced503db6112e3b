"""English captions: singular forms of nouns, numbers, and whether references are English."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from xmodal_cli.errors import Unavailable

_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: n for n, word in enumerate(_NUMBER_WORDS, 1)}
NUMBERS |= {str(n): n for n in range(1, 11)}
MIN_FUNCTION_WORDS = 0.15  # fraction of the words of English references; Flickr8k has 0.34
_FREQUENT = frozenset(("a", "the", "and", "of", "with", "is", "are", "in", "on"))
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "gentlemen": "gentleman",
    "policemen": "policeman",
    "fishermen": "fisherman",
    "leaves": "leaf",
    "calves": "calf",
    "knives": "knife",
    "scarves": "scarf",
    "geese": "goose",
    "buses": "bus",
    "movies": "movie",
    "hoodies": "hoodie",
    "beanies": "beanie",
    "collies": "collie",
    "teddies": "teddy",
}
# nouns that end in s in both numbers, or that are pairs
_UNCHANGED = frozenset(
    (
        "trunks",
        "bus",
        "glasses",
        "goggles",
        "jeans",
        "lens",
        "pants",
        "rapids",
        "shades",
        "shorts",
        "sunglasses",
        "trousers",
    )
)


@lru_cache(maxsize=100_000)
def singular(word: str) -> str:
    """The singular of a lower-cased noun, by a few rules; other words mostly unchanged."""
    if word in _IRREGULAR or word in _UNCHANGED or len(word) < 4 or not word.endswith("s"):
        return _IRREGULAR.get(word, word)
    if word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]


def check_english(references: Sequence[Sequence[Sequence[str]]]) -> None:
    """Raise Unavailable if the references are not English, by the frequency of nine function words."""
    words = [word for sentences in references for sentence in sentences for word in sentence]
    if sum(word in _FREQUENT for word in words) < MIN_FUNCTION_WORDS * len(words):
        raise Unavailable("the references do not look like English", "this metric is defined for English captions only")
