"""Scenes of two coloured shapes, and the sentences that people might write about them. Draws nothing.

A scene is the ``first`` (left or upper) and the ``second`` (right or lower) thing, an ``axis``, a background.
Sentences are grammatical, true of the scene, and vary in pattern, wording, order and in what they leave out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

SHAPES: dict[str, tuple[str, ...]] = {  # name -> the words for it
    "circle": ("circle", "disc", "circle"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
    "star": ("star", "star", "five-pointed star"),
    "cross": ("cross", "plus sign", "cross"),
    "heart": ("heart",),
    "ring": ("ring", "ring", "hoop"),
    "moon": ("moon", "crescent", "crescent moon"),
}
COLOURS: dict[str, tuple[int, int, int]] = {
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

BEFORE = {  # how the first thing stands to the second
    "across": ("to the left of", "on the left of", "left of"),
    "down": ("above", "over", "higher than"),
}
AFTER = {  # and the second to the first
    "across": ("to the right of", "on the right of", "right of"),
    "down": ("below", "under", "beneath", "underneath"),
}
SIDES = {"across": ("on the left", "on the right"), "down": ("at the top", "at the bottom")}

_FROM_THE_FIRST = 0.8  # how often a sentence begins with what is on the left or at the top, as people who read do


@dataclass(frozen=True, slots=True)
class Thing:
    """One coloured shape; ``size`` is large or small."""

    shape: str
    colour: str
    size: str


@dataclass(frozen=True, slots=True)
class Scene:
    """``first`` is to the left of (axis across) or above (axis down) ``second``."""

    first: Thing
    second: Thing
    axis: str
    background: str

    @property
    def content(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What no two pictures of a test split share: the shapes and the colours, whichever has which."""
        things = (self.first, self.second)
        return tuple(sorted(t.shape for t in things)), tuple(sorted(t.colour for t in things))


NUM_CONTENTS = 28 * 28  # pairs of shapes times pairs of colours
NUM_SCENES = NUM_CONTENTS * 2 * 2 * 2 * 4 * len(BACKGROUNDS)  # who has which colour, who is first, axis, sizes


def draw_scenes(count: int, random: Random, taken: set[Scene]) -> list[Scene]:
    """``count`` new scenes, none of them in ``taken``, to which they are added.

    Contents come in rounds of shuffled order: up to NUM_CONTENTS scenes share none.
    """
    contents = [
        (shapes, colours)
        for shapes in itertools.combinations(SHAPES, 2)
        for colours in itertools.combinations(COLOURS, 2)
    ]
    scenes: list[Scene] = []
    while len(scenes) < count:
        random.shuffle(contents)
        for shapes, colours in contents[: count - len(scenes)]:
            scene = _arrange(shapes, colours, random)
            while scene in taken:
                scene = _arrange(shapes, colours, random)
            taken.add(scene)
            scenes.append(scene)
    return scenes


def _arrange(shapes: tuple[str, ...], colours: tuple[str, ...], random: Random) -> Scene:
    things = [
        Thing(shape, colour, random.choice(tuple(SIZES)))
        for shape, colour in zip(shapes, random.sample(colours, 2), strict=True)
    ]
    first, second = random.sample(things, 2)
    return Scene(first, second, random.choice(AXES), random.choice(BACKGROUNDS))


# ---------------------------------------------------------------------------- sentences


def describe(scene: Scene, random: Random, count: int = 5) -> list[str]:
    """``count`` different sentences about the scene, each of another pattern."""
    return [_sentence(pattern(scene, random)) for pattern in random.sample(_PATTERNS, count)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _noun(thing: Thing, random: Random, sized: float = 0.4) -> str:
    """``large red circle``; the size is left out more often than not."""
    size = f"{random.choice(SIZES[thing.size])} " if random.random() < sized else ""
    return f"{size}{thing.colour} {random.choice(SHAPES[thing.shape])}"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _ground(scene: Scene, random: Random) -> str:
    return _a(f"{scene.background} {random.choice(('background', 'background', 'backdrop'))}")


def _pair(scene: Scene, random: Random) -> tuple[Thing, str, Thing]:
    """The two things in either order, with the relation that holds in that order."""
    if random.random() < _FROM_THE_FIRST:
        return scene.first, random.choice(BEFORE[scene.axis]), scene.second
    return scene.second, random.choice(AFTER[scene.axis]), scene.first


def _is(scene: Scene, random: Random) -> str:
    one, relation, other = _pair(scene, random)
    return f"{_a(_noun(one, random))} is {relation} {_a(_noun(other, random))}"


def _sits(scene: Scene, random: Random) -> str:
    one, relation, other = _pair(scene, random)
    verb = random.choice(("sits", "lies", "appears"))
    return f"the {_noun(one, random)} {verb} {relation} the {_noun(other, random)}"


def _there_is(scene: Scene, random: Random) -> str:
    one, relation, other = _pair(scene, random)
    return f"there is {_a(_noun(one, random))} {relation} {_a(_noun(other, random))}"


def _bare(scene: Scene, random: Random) -> str:
    one, relation, other = _pair(scene, random)
    return f"{_a(_noun(one, random))} {relation} {_a(_noun(other, random))} on {_ground(scene, random)}"


def _ground_first(scene: Scene, random: Random) -> str:
    one, relation, other = _pair(scene, random)
    return f"on {_ground(scene, random)}, {_a(_noun(one, random))} is {relation} {_a(_noun(other, random))}"


def _both(scene: Scene, random: Random) -> str:
    one, _, other = _pair(scene, random)
    return f"{_a(_noun(one, random))} and {_a(_noun(other, random))} on {_ground(scene, random)}"


def _picture_of(scene: Scene, random: Random) -> str:
    one, _, other = _pair(scene, random)
    what = random.choice(("picture", "drawing", "image"))
    return f"{_a(what)} of {_a(_noun(one, random))} and {_a(_noun(other, random))}"


def _two_shapes(scene: Scene, random: Random) -> str:
    near, far = SIDES[scene.axis]
    one, other = _noun(scene.first, random), _noun(scene.second, random)
    return f"two shapes, {_a(one)} {near} and {_a(other)} {far}"


def _with(scene: Scene, random: Random) -> str:
    near, far = SIDES[scene.axis]
    told = random.random() < _FROM_THE_FIRST
    side, thing, rest = (far, scene.second, scene.first) if told else (near, scene.first, scene.second)
    return f"{_a(_noun(rest, random))} with {_a(_noun(thing, random))} {side}"


def _ground_shows(scene: Scene, random: Random) -> str:
    one, _, other = _pair(scene, random)
    verb = random.choice(("with", "behind", "showing"))
    return f"{_ground(scene, random)} {verb} {_a(_noun(one, random))} and {_a(_noun(other, random))}"


def _sizes(scene: Scene, random: Random) -> str:
    one, relation, other = _pair(scene, random)
    return f"{_a(_noun(one, random, sized=1.0))} {relation} {_a(_noun(other, random, sized=1.0))}"


_PATTERNS: tuple[Callable[[Scene, Random], str], ...] = (
    _is,
    _sits,
    _there_is,
    _bare,
    _ground_first,
    _both,
    _picture_of,
    _two_shapes,
    _with,
    _ground_shows,
    _sizes,
)
