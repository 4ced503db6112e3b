"""Whether a sentence about coloured shapes is true of a scene. It reads any sentence made of the set's words.

A sentence is true if everything that it says holds: shapes, colours, sizes, how many, where they are, on what. One
that names no shape, breaks off, or has a word that is none of the set's, is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xmodal_cli.data.scenes import AFTER, BACKGROUNDS, BEFORE, COLOURS, SHAPES, SIDES, SIZES, Scene, Thing

_FILLING = (
    *("a", "an", "and", "appears", "behind", "drawing", "image", "is", "lies"),
    *("of", "on", "picture", "showing", "sits", "the", "there", "with"),
)


def caption_is_true(sentence: str, scene: Scene) -> bool:
    """Whether all that ``sentence`` says holds of ``scene``."""
    text = sentence.lower().replace(",", " ").replace("-", " ").strip().removesuffix(".")  # captioners write no marks
    pieces = list(_PIECE.finditer(text))
    if _PIECE.sub("", text).strip() or not pieces or pieces[-1].lastgroup in ("relation", "filling"):
        return False
    nouns = [n for n, piece in enumerate(pieces) if piece.lastgroup == "noun"]
    things = {n: _meant(pieces[n], scene) for n in nouns}
    if not nouns or None in things.values() or len(set(things.values())) < len(nouns):
        return False
    return all(
        _holds(piece, scene, [things[m] for m in nouns if m < n], [things[m] for m in nouns if m > n])
        for n, piece in enumerate(pieces)
    )


def _holds(piece: re.Match[str], scene: Scene, before: list[Thing | None], after: list[Thing | None]) -> bool:
    """Whether one piece is true, given the things that were named before and after it."""
    said = piece[0]
    if piece.lastgroup == "relation":  # of the one before it to the one after it
        first = scene.first if said in BEFORE[scene.axis] else scene.second if said in AFTER[scene.axis] else None
        return first is not None and bool(after) and before[-1:] == [first]
    if piece.lastgroup == "side":
        places = dict(zip(SIDES[scene.axis], (scene.first, scene.second), strict=True))
        return said in places and before[-1:] == [places[said]]
    if piece.lastgroup == "ground":
        return said.split()[0] == scene.background
    return piece.lastgroup != "count" or len(before) + len(after) == 2


def _meant(noun: re.Match[str], scene: Scene) -> Thing | None:
    """The thing of the scene that has the shape, the colour and, where it is named, the size."""
    for thing in (scene.first, scene.second):
        size_fits = noun["size"] is None or noun["size"] in SIZES[thing.size]
        if size_fits and noun["colour"] == thing.colour and noun["shape"] in _words(thing.shape):
            return thing
    return None


def _words(shape: str) -> list[str]:
    return [word.replace("-", " ") for word in SHAPES[shape]]


def _any(words: Iterable[str]) -> str:
    """One of ``words``, the longest that fits."""
    return "|".join(sorted(map(re.escape, set(words)), key=lambda word: (-len(word), word)))


def _all(table: Mapping[str, tuple[str, ...]]) -> str:
    return _any(word for words in table.values() for word in words)


_SHAPES = [word for shape in SHAPES for word in _words(shape)]
_PIECE = re.compile(
    rf"(?<!\w)(?:(?P<noun>(?:(?P<size>{_all(SIZES)}) )?(?P<colour>{_any(COLOURS)}) (?P<shape>{_any(_SHAPES)}))"
    rf"|(?P<relation>{_all(BEFORE)}|{_all(AFTER)})|(?P<side>{_all(SIDES)})"
    rf"|(?P<ground>(?:{_any(BACKGROUNDS)}) (?:background|backdrop))|(?P<count>two shapes)"
    rf"|(?P<filling>{_any(_FILLING)}))(?!\w)"
)
