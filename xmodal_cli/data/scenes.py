"""Scenes of two colored shapes, and generated captions of them. Rendering is in ``shapes``.

A scene has a ``first`` (left or upper) and a ``second`` (right or lower) object, an ``axis`` and a background.
Captions are grammatical, true of the scene, and vary in pattern, wording, order and omitted details.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

SHAPES: dict[str, tuple[str, ...]] = {  # shape -> its words in captions
    "circle": ("circle", "disc", "circle"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star", "star", "five-pointed star"),
    "cross": ("cross", "plus sign", "cross"),
    "heart": ("heart",),
    "ring": ("ring", "ring", "hoop"),
    "moon": ("moon", "crescent", "crescent moon"),
}
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 32, 36),
    "orange": (247, 140, 20),
    "yellow": (243, 220, 40),
    "green": (34, 150, 60),
    "blue": (32, 80, 210),
    "purple": (128, 44, 160),
    "pink": (248, 130, 190),
    "brown": (120, 72, 36),
}
BACKGROUNDS = ("white", "black", "grey", "striped", "dotted", "checked")
SIZES: dict[str, tuple[str, ...]] = {"large": ("large", "big"), "small": ("small", "little", "tiny")}
AXES = ("across", "down")

BEFORE = {  # relation of the first object to the second
    "across": ("to the left of", "on the left of", "left of"),
    "down": ("above", "over", "higher than"),
}
AFTER = {  # relation of the second object to the first
    "across": ("to the right of", "on the right of", "right of"),
    "down": ("below", "under", "beneath", "underneath"),
}
SIDES = {"across": ("on the left", "on the right"), "down": ("at the top", "at the bottom")}

_FIRST_PROB = 0.8  # probability that a caption begins with the first object


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One colored shape; ``size`` is large or small."""

    shape: str
    color: str
    size: str


@dataclass(frozen=True, slots=True)
class Scene:
    """``first`` is to the left of (axis across) or above (axis down) ``second``."""

    first: SceneObject
    second: SceneObject
    axis: str
    background: str

    @property
    def content(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The shapes and the colors, sorted; unique within a test split."""
        objects = (self.first, self.second)
        return tuple(sorted(o.shape for o in objects)), tuple(sorted(o.color for o in objects))


NUM_CONTENTS = 28 * 28  # pairs of shapes times pairs of colors
NUM_SCENES = NUM_CONTENTS * 2 * 2 * 2 * 4 * len(BACKGROUNDS)  # color assignment, order, axis, sizes, background


def sample_scenes(count: int, random: Random, taken: set[Scene]) -> list[Scene]:
    """``count`` distinct scenes that are not in ``taken``; they are added to it.

    All contents are used once, in random order, before any is repeated: up to NUM_CONTENTS scenes differ in content.
    """
    contents = [
        (shapes, colors) for shapes in itertools.combinations(SHAPES, 2) for colors in itertools.combinations(COLORS, 2)
    ]
    scenes: list[Scene] = []
    while len(scenes) < count:
        random.shuffle(contents)
        for shapes, colors in contents[: count - len(scenes)]:
            scene = _arrange(shapes, colors, random)
            while scene in taken:
                scene = _arrange(shapes, colors, random)
            taken.add(scene)
            scenes.append(scene)
    return scenes


def _arrange(shapes: tuple[str, ...], colors: tuple[str, ...], random: Random) -> Scene:
    objects = [
        SceneObject(shape, color, random.choice(tuple(SIZES)))
        for shape, color in zip(shapes, random.sample(colors, 2), strict=True)
    ]
    first, second = random.sample(objects, 2)
    return Scene(first, second, random.choice(AXES), random.choice(BACKGROUNDS))


# ---------------------------------------------------------------------------- captions


def describe(scene: Scene, random: Random, count: int = 5) -> list[str]:
    """``count`` captions of the scene, each with a different pattern."""
    return [_sentence(pattern(scene, random)) for pattern in random.sample(_PATTERNS, count)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _noun(obj: SceneObject, random: Random, size_prob: float = 0.4) -> str:
    """``large red circle``; the size is included with probability ``size_prob``."""
    size = f"{random.choice(SIZES[obj.size])} " if random.random() < size_prob else ""
    return f"{size}{obj.color} {random.choice(SHAPES[obj.shape])}"


def _a_noun(obj: SceneObject, random: Random, size_prob: float = 0.4) -> str:
    """``a large red circle``."""
    return _with_article(_noun(obj, random, size_prob))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _a_background(scene: Scene, random: Random) -> str:
    return _with_article(f"{scene.background} {random.choice(('background', 'background', 'backdrop'))}")


def _ordered_pair(scene: Scene, random: Random) -> tuple[SceneObject, str, SceneObject]:
    """The two objects in random order, with the relation of the one to the other."""
    if random.random() < _FIRST_PROB:
        return scene.first, random.choice(BEFORE[scene.axis]), scene.second
    return scene.second, random.choice(AFTER[scene.axis]), scene.first


def _is_pattern(scene: Scene, random: Random) -> str:
    one, relation, other = _ordered_pair(scene, random)
    return f"{_a_noun(one, random)} is {relation} {_a_noun(other, random)}"


def _verb_pattern(scene: Scene, random: Random) -> str:
    one, relation, other = _ordered_pair(scene, random)
    verb = random.choice(("sits", "lies", "appears"))
    return f"the {_noun(one, random)} {verb} {relation} the {_noun(other, random)}"


def _there_is_pattern(scene: Scene, random: Random) -> str:
    one, relation, other = _ordered_pair(scene, random)
    return f"there is {_a_noun(one, random)} {relation} {_a_noun(other, random)}"


def _background_last_pattern(scene: Scene, random: Random) -> str:
    one, relation, other = _ordered_pair(scene, random)
    return f"{_a_noun(one, random)} {relation} {_a_noun(other, random)} on {_a_background(scene, random)}"


def _background_first_pattern(scene: Scene, random: Random) -> str:
    one, relation, other = _ordered_pair(scene, random)
    return f"on {_a_background(scene, random)}, {_a_noun(one, random)} is {relation} {_a_noun(other, random)}"


def _both_pattern(scene: Scene, random: Random) -> str:
    one, _, other = _ordered_pair(scene, random)
    return f"{_a_noun(one, random)} and {_a_noun(other, random)} on {_a_background(scene, random)}"


def _medium_pattern(scene: Scene, random: Random) -> str:
    one, _, other = _ordered_pair(scene, random)
    medium = random.choice(("picture", "drawing", "image"))
    return f"{_with_article(medium)} of {_a_noun(one, random)} and {_a_noun(other, random)}"


def _two_shapes_pattern(scene: Scene, random: Random) -> str:
    near, far = SIDES[scene.axis]
    one, other = _noun(scene.first, random), _noun(scene.second, random)
    return f"two shapes, {_with_article(one)} {near} and {_with_article(other)} {far}"


def _side_pattern(scene: Scene, random: Random) -> str:
    near, far = SIDES[scene.axis]
    begins_with_first = random.random() < _FIRST_PROB
    one, other, side = (scene.first, scene.second, far) if begins_with_first else (scene.second, scene.first, near)
    return f"{_a_noun(one, random)} with {_a_noun(other, random)} {side}"


def _background_subject_pattern(scene: Scene, random: Random) -> str:
    one, _, other = _ordered_pair(scene, random)
    verb = random.choice(("with", "behind", "showing"))
    return f"{_a_background(scene, random)} {verb} {_a_noun(one, random)} and {_a_noun(other, random)}"


def _sizes_pattern(scene: Scene, random: Random) -> str:
    one, relation, other = _ordered_pair(scene, random)
    return f"{_a_noun(one, random, 1.0)} {relation} {_a_noun(other, random, 1.0)}"


_PATTERNS: tuple[Callable[[Scene, Random], str], ...] = (
    _is_pattern,
    _verb_pattern,
    _there_is_pattern,
    _background_last_pattern,
    _background_first_pattern,
    _both_pattern,
    _medium_pattern,
    _two_shapes_pattern,
    _side_pattern,
    _background_subject_pattern,
    _sizes_pattern,
)
