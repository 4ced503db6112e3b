"""Whether a caption is true of a scene of the ``shapes`` dataset. Parses any sentence in the dataset's vocabulary.

A caption is true if all its statements are: shapes, colors, sizes, count, positions and background. A caption is false
if it names no shape, is incomplete, or has a word outside the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xmodal_cli.data.scenes import AFTER, BACKGROUNDS, BEFORE, COLORS, SHAPES, SIDES, SIZES, Scene, SceneObject

_FILLERS = (
    *("a", "an", "and", "appears", "behind", "drawing", "image", "is", "lies"),
    *("of", "on", "picture", "showing", "sits", "the", "there", "with"),
)


def caption_is_true(caption: str, scene: Scene) -> bool:
    """Whether every statement of ``caption`` is true of ``scene``."""
    text = caption.lower().replace(",", " ").replace("-", " ").strip().removesuffix(".")  # captioners omit punctuation
    phrases = list(_PHRASE.finditer(text))
    if _PHRASE.sub("", text).strip() or not phrases or phrases[-1].lastgroup in ("relation", "filler"):
        return False
    nouns = [i for i, phrase in enumerate(phrases) if phrase.lastgroup == "noun"]
    objects = {i: _find_object(phrases[i], scene) for i in nouns}
    if not nouns or None in objects.values() or len(set(objects.values())) < len(nouns):
        return False
    return all(
        _phrase_is_true(phrase, scene, [objects[n] for n in nouns if n < i], [objects[n] for n in nouns if n > i])
        for i, phrase in enumerate(phrases)
    )


def _phrase_is_true(
    phrase: re.Match[str], scene: Scene, before: list[SceneObject | None], after: list[SceneObject | None]
) -> bool:
    """Whether one phrase is true, given the objects that are named before and after it."""
    text = phrase[0]
    if phrase.lastgroup == "relation":  # between the noun before it and the noun after it
        first = scene.first if text in BEFORE[scene.axis] else scene.second if text in AFTER[scene.axis] else None
        return first is not None and bool(after) and before[-1:] == [first]
    if phrase.lastgroup == "side":
        sides = dict(zip(SIDES[scene.axis], (scene.first, scene.second), strict=True))
        return text in sides and before[-1:] == [sides[text]]
    if phrase.lastgroup == "background":
        return text.split()[0] == scene.background
    return phrase.lastgroup != "count" or len(before) + len(after) == 2


def _find_object(noun: re.Match[str], scene: Scene) -> SceneObject | None:
    """The object of the scene with the shape, the color and, if the noun has one, the size."""
    for candidate in (scene.first, scene.second):
        size_matches = noun["size"] is None or noun["size"] in SIZES[candidate.size]
        if size_matches and noun["color"] == candidate.color and noun["shape"] in _shape_words(candidate.shape):
            return candidate
    return None


def _shape_words(shape: str) -> list[str]:
    return [word.replace("-", " ") for word in SHAPES[shape]]


def _alternatives(words: Iterable[str]) -> str:
    """A pattern for one of ``words``, longest first."""
    return "|".join(sorted(map(re.escape, set(words)), key=lambda word: (-len(word), word)))


def _all_alternatives(table: Mapping[str, tuple[str, ...]]) -> str:
    return _alternatives(word for words in table.values() for word in words)


_SHAPES = _alternatives(word for shape in SHAPES for word in _shape_words(shape))
_COLORED_SHAPE = rf"(?:(?P<size>{_all_alternatives(SIZES)}) )?(?P<color>{_alternatives(COLORS)}) (?P<shape>{_SHAPES})"
_PHRASE = re.compile(
    rf"(?<!\w)(?:(?P<noun>{_COLORED_SHAPE})"
    rf"|(?P<relation>{_all_alternatives(BEFORE)}|{_all_alternatives(AFTER)})|(?P<side>{_all_alternatives(SIDES)})"
    rf"|(?P<background>(?:{_alternatives(BACKGROUNDS)}) (?:background|backdrop))|(?P<count>two shapes)"
    rf"|(?P<filler>{_alternatives(_FILLERS)}))(?!\w)"
)
