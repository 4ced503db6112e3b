"""The generated set: the same from the same seed, true sentences, pictures that show what the sentences say."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data import scenes, shapes
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.scenes import COLOURS, Scene, Thing, describe, draw_scenes
from xmodal_cli.data.shapes import LIST_NAME, SIDE, draw, make_shapes
from xmodal_cli.errors import ConfigError, StorageError

NUMBERS = {"num_train": 12, "num_val": 6, "num_test": 6}

# what the words mean, written down apart from the code that writes the sentences
SHAPE_WORDS = {
    "circle": "circle", "disc": "circle", "square": "square", "box": "square", "triangle": "triangle",
    "star": "star", "five-pointed star": "star", "cross": "cross", "plus sign": "cross", "heart": "heart",
    "ring": "ring", "hoop": "ring", "moon": "moon", "crescent": "moon", "crescent moon": "moon",
}  # fmt: skip
SIZE_WORDS = {"large": "large", "big": "large", "small": "small", "little": "small", "tiny": "small", "": ""}
BEFORE = {"left of": "across", "above": "down", "over": "down", "higher than": "down"}
AFTER = {"right of": "across", "below": "down", "under": "down", "beneath": "down", "underneath": "down"}
PLACES = {
    "on the left": (0, "across"),
    "on the right": (1, "across"),
    "at the top": (0, "down"),
    "at the bottom": (1, "down"),
}


def any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, filter(None, words)), key=len, reverse=True))


NOUN = re.compile(rf"\b(?:({any_of(SIZE_WORDS)}) )?({any_of(COLOURS)}) ({any_of(SHAPE_WORDS)})\b")


@dataclass(frozen=True)
class Said:
    """What one sentence claims; ``first`` and ``axis`` where it says how the two stand."""

    things: tuple[tuple[str, str, str], ...]  # (size or "", colour, shape)
    ground: str
    axis: str
    first: str  # colour of the left or upper one; colours differ within a scene


def understand(sentence: str) -> Said:
    text = sentence.lower()
    nouns = list(NOUN.finditer(text))
    assert len(nouns) == 2, sentence
    things = tuple((SIZE_WORDS[n[1] or ""], n[2], SHAPE_WORDS[n[3]]) for n in nouns)
    ground = re.search(r"(\w+) back(?:ground|drop)", text)
    axis = first = ""
    between = text[nouns[0].end() : nouns[1].start()]
    for order, words in ((0, BEFORE), (1, AFTER)):
        for word in words:
            if re.search(rf"\b{word}\b", between):
                axis, first = words[word], things[order][1]
    for number, noun in enumerate(nouns):
        for place, (rank, along) in PLACES.items():
            if text[noun.end() :].startswith((f" {place}.", f" {place} and")):
                axis, first = along, things[number ^ rank][1]
    return Said(things, ground[1] if ground else "", axis, first)


def pictures(folder: Path) -> dict[str, str]:
    """Name -> sha256 of the pixels."""
    found = {}
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as image:
            found[path.name] = hashlib.sha256(image.tobytes()).hexdigest()
    return found


def centre(picture: np.ndarray, colour: str) -> tuple[float, float]:
    """(x, y) of the pixels of a colour; the shade varies by up to 14 levels."""
    ys, xs = np.nonzero(np.abs(picture.astype(int) - COLOURS[colour]).max(axis=-1) <= 14)
    assert len(xs) > 40, f"there is no {colour}"
    return float(xs.mean()), float(ys.mean())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("made") / "set", seed=3, **NUMBERS)


# ---------------------------------------------------------------------------- seeds


def test_the_same_seed_gives_the_same_set(made: Path, tmp_path: Path) -> None:
    again = make_shapes(tmp_path / "again", seed=3, **NUMBERS)
    assert (again / LIST_NAME).read_bytes() == (made / LIST_NAME).read_bytes()
    assert pictures(again) == pictures(made)


def test_another_process_gives_the_same_set(made: Path, tmp_path: Path) -> None:
    code = f"import pathlib, xmodal_cli.data.shapes as s; s.make_shapes(pathlib.Path('s'), 3, **{NUMBERS})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "77"}, check=True)
    assert (tmp_path / "s" / LIST_NAME).read_bytes() == (made / LIST_NAME).read_bytes()
    assert pictures(tmp_path / "s") == pictures(made)


def test_another_seed_gives_another_set(made: Path, tmp_path: Path) -> None:
    other = make_shapes(tmp_path / "other", seed=4, **NUMBERS)
    assert (other / LIST_NAME).read_bytes() != (made / LIST_NAME).read_bytes()
    assert pictures(other).keys() == pictures(made).keys()
    assert not set(pictures(other).values()) & set(pictures(made).values())


# ---------------------------------------------------------------------------- what the set is


def test_splits_numbers_and_files(made: Path) -> None:
    dataset = read_dataset(made)
    assert dataset.format == "jsonl"
    assert dataset.splits == {"train": 12, "val": 6, "test": 6}
    assert len(set(pictures(made).values())) == 24
    assert sorted(p.name for p in made.iterdir()) == ["images", LIST_NAME]
    for example in dataset.examples:
        assert example.path is not None
        with Image.open(example.path) as image:
            assert (image.mode, image.size) == ("RGB", (SIDE, SIDE))


def test_five_different_sentences_each(made: Path) -> None:
    for example in read_dataset(made).examples:
        assert len(set(example.captions)) == len(example.captions) == 5
        for caption in example.captions:
            assert re.fullmatch(r"[A-Z][a-z ,-]+\.", caption), caption
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|  ", caption), caption


def test_the_pictures_show_what_the_sentences_say(made: Path) -> None:
    related = 0
    for example in read_dataset(made).examples:
        assert example.path is not None
        picture = np.asarray(Image.open(example.path))
        for caption in example.captions:
            said = understand(caption)
            centres = {colour: centre(picture, colour) for _, colour, _ in said.things}
            if said.axis:
                (second,) = set(centres) - {said.first}
                along = ("across", "down").index(said.axis)
                assert centres[said.first][along] + 0.2 * SIDE < centres[second][along], caption
                related += 1
    assert related > 24


def test_no_two_pictures_of_val_or_test_have_the_same_content(made: Path) -> None:
    dataset = read_dataset(made)
    for split in ("val", "test"):
        contents = []
        for example in dataset.select(split).examples:
            (content,) = {
                (tuple(sorted(s for *_, s in said.things)), tuple(sorted(c for _, c, _ in said.things)))
                for said in map(understand, example.captions)
            }
            contents.append(content)
        assert len(contents) == len(set(contents)) == 6


def test_the_default_set_trains_a_small_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its numbers, without drawing it: each split is large enough and every shape and colour is seen in training."""
    monkeypatch.setattr(shapes, "draw", lambda scene, random: Image.new("RGB", (1, 1)))
    dataset = read_dataset(make_shapes(tmp_path / "set"))
    assert dataset.splits == {"train": 1200, "val": 150, "test": 150}
    words = Counter(
        word for caption in dataset.select("train").captions for word in re.findall(r"[a-z-]+", caption.lower())
    )
    unseen = {
        w for c in dataset.select("val", "test").captions for w in re.findall(r"[a-z-]+", c.lower())
    } - words.keys()
    assert not unseen
    assert min(words[colour] for colour in COLOURS) > 300


# ---------------------------------------------------------------------------- scenes and sentences


def test_sentences_are_true_of_their_scene() -> None:
    random = Random(1)
    patterns, relations = set(), set()
    for scene in draw_scenes(150, random, set()):
        things = {t.colour: t for t in (scene.first, scene.second)}
        for sentence in describe(scene, random, count=len(scenes._PATTERNS)):
            said = understand(sentence)
            assert {c for _, c, _ in said.things} == set(things), sentence
            for size, colour, shape in said.things:
                assert things[colour].shape == shape, sentence
                assert size in ("", things[colour].size), sentence
            assert said.ground in ("", scene.background), sentence
            if said.axis:
                assert (said.axis, said.first) == (scene.axis, scene.first.colour), sentence
            relations.add(said.axis)
            patterns.add(NOUN.sub("N", sentence.lower()))
    assert relations == {"", "across", "down"}
    assert len(patterns) > 60  # honest variety


@pytest.mark.parametrize(
    "sentence",
    [
        "A red circle is to the right of a blue star.",
        "Two shapes, a blue star on the left and a red disc on the right.",
        "A red circle below a blue star.",
    ],
)
def test_the_reader_of_sentences_sees_what_is_false(sentence: str) -> None:
    """The check above can fail: these are false of a red circle to the left of a blue star."""
    said = understand(sentence)
    assert (said.axis, said.first) != ("across", "red")


def test_scenes_are_never_repeated() -> None:
    taken: set[Scene] = set()
    first = draw_scenes(scenes.NUM_CONTENTS, Random(5), taken)
    second = draw_scenes(scenes.NUM_CONTENTS + 10, Random(5), taken)
    assert len({s.content for s in first}) == scenes.NUM_CONTENTS
    assert len({*first, *second}) == len(taken) == 2 * scenes.NUM_CONTENTS + 10
    for scene in first:
        assert scene.first.shape != scene.second.shape
        assert scene.first.colour != scene.second.colour


@pytest.mark.parametrize("shape", scenes.SHAPES)
@pytest.mark.parametrize("ground", scenes.BACKGROUNDS)
def test_large_is_larger_than_small_on_every_ground(shape: str, ground: str) -> None:
    other = Thing("ring" if shape != "ring" else "star", "blue", "small")
    seen = {}
    for size in scenes.SIZES:
        picture = np.asarray(draw(Scene(Thing(shape, "red", size), other, "across", ground), Random(0))).astype(int)
        seen[size] = int((np.abs(picture - COLOURS["red"]).max(axis=-1) <= 14).sum())
    assert 60 < 1.8 * seen["small"] < seen["large"]


def test_every_pair_of_colours_can_be_told_apart() -> None:
    for one, other in itertools.combinations(COLOURS.values(), 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 28


# ---------------------------------------------------------------------------- what is refused


def test_folders_in_use_are_refused(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "used", tmp_path / "file"):
        with pytest.raises(ConfigError, match=f"{out} exists already") as caught:
            make_shapes(out, **NUMBERS)
        assert caught.value.hint
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "mine.txt", "used"]


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    make_shapes(Path(), num_train=1, num_val=0, num_test=1)
    assert tmp_path.stat().st_ino == before
    assert read_dataset(tmp_path).splits == {"train": 1, "test": 1}
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.*"))


@pytest.mark.parametrize("numbers", [(0, 0, 0), (-1, 2, 2), (10**6, 0, 0)])
def test_numbers_that_cannot_be_had(tmp_path: Path, numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"cannot make [\d,-]+ pictures"):
        make_shapes(tmp_path / "set", 0, *numbers)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_where_it_could_not_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="no space left on the disk"):
        make_shapes(tmp_path / "set", num_train=1, num_val=1, num_test=1)
    assert not list(tmp_path.iterdir())


def test_two_at_once_end_with_one_whole_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process finishes the same folder while this one draws."""
    out, few = tmp_path / "set", {"num_train": 2, "num_val": 1, "num_test": 1}
    write = shapes._write_pictures

    def slow(folder: Path, seed: int, numbers: dict[str, int]) -> list[str]:
        monkeypatch.setattr(shapes, "_write_pictures", write)
        make_shapes(out, **few)
        return write(folder, seed, numbers)

    monkeypatch.setattr(shapes, "_write_pictures", slow)
    make_shapes(out, **few)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    lines = (out / LIST_NAME).read_text().splitlines()
    assert len(lines) == 4
    assert all((out / json.loads(line)["image"]).is_file() for line in lines)
