"""Truth of captions about scenes, compared with all captions that can be generated, and with examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import pytest

from xmodal_cli.data import scenes
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.scene_truth import caption_is_true
from xmodal_cli.data.scenes import Scene, SceneObject, sample_scenes
from xmodal_cli.data.shapes import make_shapes, scenes_in_test_split

SCENE = Scene(SceneObject("circle", "red", "large"), SceneObject("star", "blue", "small"), "across", "striped")


class ExhaustiveRandom:
    """A stand-in for Random that enumerates all sequences of choices, in depth-first order."""

    def __init__(self) -> None:
        self.choices: list[int] = []
        self.num_options: list[int] = []
        self.depth = 0

    def _choose(self, num_options: int) -> int:
        if self.depth == len(self.choices):
            self.choices.append(0)
            self.num_options.append(num_options)
        self.depth += 1
        return self.choices[self.depth - 1]

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self._choose(len(options))]

    def random(self) -> float:
        return (0.01, 0.99)[self._choose(2)]

    def enumerate(self, make: Callable[[ExhaustiveRandom], str]) -> Iterator[str]:
        while True:
            self.depth = 0
            yield make(self)
            while self.choices and self.choices[-1] == self.num_options[-1] - 1:
                self.choices.pop()
                self.num_options.pop()
            if not self.choices:
                return
            self.choices[-1] += 1


def all_captions(scene: Scene) -> set[str]:
    """All captions that can be generated for a scene."""
    captions: set[str] = set()
    for pattern in scenes._PATTERNS:
        make: Any = pattern
        texts = ExhaustiveRandom().enumerate(lambda random, make=make: make(scene, random))
        captions.update(scenes._sentence(text) for text in texts)
    return captions


def test_a_caption_is_true_of_exactly_the_scenes_it_can_be_generated_for() -> None:
    """The scenes differ in one property each, so that many captions are true of several."""
    first, second = SCENE.first, SCENE.second
    others = [
        SCENE,
        Scene(second, first, "across", "striped"),
        Scene(first, second, "down", "striped"),
        Scene(first, second, "across", "dotted"),
        Scene(SceneObject("circle", "red", "small"), second, "across", "striped"),
        Scene(SceneObject("circle", "blue", "large"), SceneObject("star", "red", "small"), "across", "striped"),
        Scene(first, SceneObject("moon", "blue", "small"), "across", "striped"),
    ]
    captions = all_captions(SCENE)
    assert len(captions) > 2000
    for other in others:
        shared = captions & all_captions(other)
        assert {caption for caption in captions if caption_is_true(caption, other)} == shared
        assert (len(shared) == len(captions)) == (other == SCENE)


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        ("a red circle", True),  # incomplete but true
        ("two shapes", False),  # names no shape
        ("", False),
        ("A red circle with a blue star on a striped background.", True),  # not a pattern of the generator
        ("a red disc is left of a tiny blue five-pointed star", True),
        (
            "a tiny blue five pointed star with a red disc on the left",
            True,
        ),  # no punctuation
        ("a red disc is left of a tiny blue", False),
        ("a blue star is left of a red circle", False),
        ("a red circle above a blue star", False),
        ("a red circle and a red circle", False),  # only one exists
        ("two shapes, a red circle on the left", False),  # the other is missing
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
def test_examples(caption: str, true: bool) -> None:
    assert caption_is_true(caption, SCENE) is true


def test_scenes_in_test_split_match_the_images(tmp_path: Any) -> None:
    """Each caption is true of the scene of its image only: within a split contents are unique."""
    test = read_dataset(make_shapes(tmp_path / "set", 5, num_train=3, num_val=4, num_test=9)).select("test")
    test_scenes = scenes_in_test_split(5, 9)
    assert len(test_scenes) == len(test.examples) == 9
    for index, example in enumerate(test.examples):
        for caption in example.captions:
            assert [i for i, scene in enumerate(test_scenes) if caption_is_true(caption, scene)] == [index], caption


def test_captions_of_random_scenes_are_true() -> None:
    random = Random(2)
    for scene in sample_scenes(60, random, set()):
        for caption in scenes.describe(scene, random, len(scenes._PATTERNS)):
            assert caption_is_true(caption, scene), (caption, scene)
