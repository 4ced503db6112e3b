"""Which sentences are true of a scene: against every sentence that could be written about it, and by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest

from xmodal_cli.data import scenes
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.scene_truth import caption_is_true
from xmodal_cli.data.scenes import Scene, Thing, draw_scenes
from xmodal_cli.data.shapes import make_shapes, scenes_of_test

SCENE = Scene(Thing("circle", "red", "large"), Thing("star", "blue", "small"), "across", "striped")


class EveryWay:
    """In place of a Random: walks through all that it could draw, one way after the other."""

    def __init__(self) -> None:
        self.path: list[int] = []
        self.widths: list[int] = []
        self.place = 0

    def _draw(self, width: int) -> int:
        if self.place == len(self.path):
            self.path.append(0)
            self.widths.append(width)
        self.place += 1
        return self.path[self.place - 1]

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self._draw(len(options))]

    def random(self) -> float:
        return (0.01, 0.99)[self._draw(2)]

    def ways(self, make: Callable[[EveryWay], str]) -> Iterator[str]:
        while True:
            self.place = 0
            yield make(self)
            while self.path and self.path[-1] == self.widths[-1] - 1:
                self.path.pop()
                self.widths.pop()
            if not self.path:
                return
            self.path[-1] += 1


def everything_said(scene: Scene) -> set[str]:
    """Each sentence that the set's writer could write about a scene."""
    said: set[str] = set()
    for pattern in scenes._PATTERNS:
        write: Any = pattern
        said.update(scenes._sentence(words) for words in EveryWay().ways(lambda draw, write=write: write(scene, draw)))
    return said


def test_all_that_can_be_said_is_true_and_what_is_said_of_others_only_where_it_could_be_said() -> None:
    """The scenes differ in one thing each, so that many sentences are true of several."""
    first, second = SCENE.first, SCENE.second
    others = [
        SCENE,
        Scene(second, first, "across", "striped"),
        Scene(first, second, "down", "striped"),
        Scene(first, second, "across", "dotted"),
        Scene(Thing("circle", "red", "small"), second, "across", "striped"),
        Scene(Thing("circle", "blue", "large"), Thing("star", "red", "small"), "across", "striped"),
        Scene(first, Thing("moon", "blue", "small"), "across", "striped"),
    ]
    said = everything_said(SCENE)
    assert len(said) > 2000
    for other in others:
        could_be_said = said & everything_said(other)
        assert {sentence for sentence in said if caption_is_true(sentence, other)} == could_be_said
        assert (len(could_be_said) == len(said)) == (other == SCENE)


@pytest.mark.parametrize(
    ("sentence", "true"),
    [
        ("a red circle", True),  # little is said, and it is true
        ("two shapes", False),  # of nothing that can be checked
        ("", False),
        ("A red circle with a blue star on a striped background.", True),  # no pattern of the set's
        ("a red disc is left of a tiny blue five-pointed star", True),
        ("a tiny blue five pointed star with a red disc on the left", True),  # as captioners write it
        ("a red disc is left of a tiny blue", False),
        ("a blue star is left of a red circle", False),
        ("a red circle above a blue star", False),
        ("a red circle and a red circle", False),  # there is one
        ("two shapes, a red circle on the left", False),  # where is the other?
        ("two shapes, a red circle on the left and a blue star on the right", True),
        ("a blue star with a red circle on the left", True),
        ("a blue star with a red circle on the right", False),
        ("a red circle on the left of a blue star", True),
        ("a red circle and a blue star on a dotted background", False),
        ("a red circle and a blue star on a green background", False),
        ("a red circle and a green star", False),
        ("a red circle and a", False),
        ("a red circle to the left of", False),
        ("left of a blue star", False),
        ("a red red circle", False),
        ("a red circle and a dog", False),
        ("the small red circle", False),
        ("<unk> red circle", False),
    ],
)
def test_by_hand(sentence: str, true: bool) -> None:
    assert caption_is_true(sentence, SCENE) is true


def test_the_scenes_of_the_test_split_are_those_of_its_pictures(tmp_path: Any) -> None:
    """All captions are true of their own scene, and of no other: contents are never shared within a split."""
    test = read_dataset(make_shapes(tmp_path / "set", 5, num_train=3, num_val=4, num_test=9)).select("test")
    known = scenes_of_test(5, 9)
    assert len(known) == len(test.examples) == 9
    for number, example in enumerate(test.examples):
        for caption in example.captions:
            assert [n for n, scene in enumerate(known) if caption_is_true(caption, scene)] == [number], caption


def test_random_scenes_and_their_sentences() -> None:
    random = Random(2)
    for scene in draw_scenes(60, random, set()):
        for sentence in scenes.describe(scene, random, len(scenes._PATTERNS)):
            assert caption_is_true(sentence, scene), (sentence, scene)
