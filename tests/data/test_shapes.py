"""The ``shapes`` dataset: reproducible by seed, captions true of their scenes, images that match the captions."""

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
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data import scenes, shapes
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.data.scenes import COLORS, Scene, SceneObject, describe, sample_scenes
from xmodal_cli.data.shapes import LIST_NAME, SIDE, draw, make_shapes
from xmodal_cli.errors import ConfigError, StorageError

SPLIT_SIZES = {"num_train": 12, "num_val": 6, "num_test": 6}

# meanings of the words, independent of the code that generates the captions
SHAPE_WORDS = {
    "circle": "circle", "disc": "circle", "square": "square", "box": "square", "triangle": "triangle",
    "star": "star", "five-pointed star": "star", "cross": "cross", "plus sign": "cross", "heart": "heart",
    "ring": "ring", "hoop": "ring", "moon": "moon", "crescent": "moon", "crescent moon": "moon",
}  # fmt: skip
SIZE_WORDS = {"large": "large", "big": "large", "small": "small", "little": "small", "tiny": "small", "": ""}
BEFORE = {"left of": "across", "above": "down", "over": "down", "higher than": "down"}
AFTER = {"right of": "across", "below": "down", "under": "down", "beneath": "down", "underneath": "down"}
SIDES = {
    "on the left": (0, "across"),
    "on the right": (1, "across"),
    "at the top": (0, "down"),
    "at the bottom": (1, "down"),
}


def any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, filter(None, words)), key=len, reverse=True))


NOUN = re.compile(rf"\b(?:({any_of(SIZE_WORDS)}) )?({any_of(COLORS)}) ({any_of(SHAPE_WORDS)})\b")


@dataclass(frozen=True)
class Parsed:
    """Content of a caption; ``axis`` and ``first`` are "" if it has no relation."""

    objects: tuple[tuple[str, str, str], ...]  # (size or "", color, shape)
    background: str
    axis: str
    first: str  # color of the left or upper object; colors differ within a scene


def parse(caption: str) -> Parsed:
    text = caption.lower()
    nouns = list(NOUN.finditer(text))
    assert len(nouns) == 2, caption
    objects = tuple((SIZE_WORDS[n[1] or ""], n[2], SHAPE_WORDS[n[3]]) for n in nouns)
    background = re.search(r"(\w+) back(?:ground|drop)", text)
    axis = first = ""
    between = text[nouns[0].end() : nouns[1].start()]
    for order, words in ((0, BEFORE), (1, AFTER)):
        for word in words:
            if re.search(rf"\b{word}\b", between):
                axis, first = words[word], objects[order][1]
    for i, noun in enumerate(nouns):
        for side, (rank, side_axis) in SIDES.items():
            if text[noun.end() :].startswith((f" {side}.", f" {side} and")):
                axis, first = side_axis, objects[i ^ rank][1]
    return Parsed(objects, background[1] if background else "", axis, first)


def image_hashes(folder: Path) -> dict[str, str]:
    """Name -> sha256 of the pixels."""
    hashes = {}
    for path in sorted((folder / "images").iterdir()):
        with Image.open(path) as image:
            hashes[path.name] = hashlib.sha256(image.tobytes()).hexdigest()
    return hashes


def center(pixels: np.ndarray, color: str) -> tuple[float, float]:
    """Mean (x, y) of the pixels of a color; the shade varies by up to 14 levels."""
    ys, xs = np.nonzero(np.abs(pixels.astype(int) - COLORS[color]).max(axis=-1) <= 14)
    assert len(xs) > 40, f"{color} is missing"
    return float(xs.mean()), float(ys.mean())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("made") / "set", seed=3, **SPLIT_SIZES)


# ---------------------------------------------------------------------------- seeds


def test_the_same_seed_gives_the_same_dataset(made: Path, tmp_path: Path) -> None:
    again = make_shapes(tmp_path / "again", seed=3, **SPLIT_SIZES)
    assert (again / LIST_NAME).read_bytes() == (made / LIST_NAME).read_bytes()
    assert image_hashes(again) == image_hashes(made)


def test_another_process_gives_the_same_dataset(made: Path, tmp_path: Path) -> None:
    code = f"import pathlib, xmodal_cli.data.shapes as s; s.make_shapes(pathlib.Path('s'), 3, **{SPLIT_SIZES})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": "77"}, check=True)
    assert (tmp_path / "s" / LIST_NAME).read_bytes() == (made / LIST_NAME).read_bytes()
    assert image_hashes(tmp_path / "s") == image_hashes(made)


def test_another_seed_gives_another_dataset(made: Path, tmp_path: Path) -> None:
    other = make_shapes(tmp_path / "other", seed=4, **SPLIT_SIZES)
    assert (other / LIST_NAME).read_bytes() != (made / LIST_NAME).read_bytes()
    assert image_hashes(other).keys() == image_hashes(made).keys()
    assert not set(image_hashes(other).values()) & set(image_hashes(made).values())


# ---------------------------------------------------------------------------- content


def test_splits_and_files(made: Path) -> None:
    dataset = read_dataset(made)
    assert dataset.format == "jsonl"
    assert dataset.splits == {"train": 12, "val": 6, "test": 6}
    assert len(set(image_hashes(made).values())) == 24
    assert sorted(p.name for p in made.iterdir()) == ["images", LIST_NAME]
    for example in dataset.examples:
        assert example.path is not None
        with Image.open(example.path) as image:
            assert (image.mode, image.size) == ("RGB", (SIDE, SIDE))


def test_five_different_captions_per_image(made: Path) -> None:
    for example in read_dataset(made).examples:
        assert len(set(example.captions)) == len(example.captions) == 5
        for caption in example.captions:
            assert re.fullmatch(r"[A-Z][a-z ,-]+\.", caption), caption
            assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]|  ", caption), caption


def test_images_match_their_captions(made: Path) -> None:
    num_relations = 0
    for example in read_dataset(made).examples:
        assert example.path is not None
        pixels = np.asarray(Image.open(example.path))
        for caption in example.captions:
            parsed = parse(caption)
            centers = {color: center(pixels, color) for _, color, _ in parsed.objects}
            if parsed.axis:
                (second,) = set(centers) - {parsed.first}
                dim = ("across", "down").index(parsed.axis)
                assert centers[parsed.first][dim] + 0.2 * SIDE < centers[second][dim], caption
                num_relations += 1
    assert num_relations > 24


def test_images_of_val_and_test_differ_in_content(made: Path) -> None:
    dataset = read_dataset(made)
    for split in ("val", "test"):
        contents = []
        for example in dataset.select(split).examples:
            (content,) = {
                (tuple(sorted(s for *_, s in parsed.objects)), tuple(sorted(c for _, c, _ in parsed.objects)))
                for parsed in map(parse, example.captions)
            }
            contents.append(content)
        assert len(contents) == len(set(contents)) == 6


def test_the_training_split_has_all_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default split sizes, and the words of the captions, without rendering."""
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
    assert min(words[color] for color in COLORS) > 300


# ---------------------------------------------------------------------------- scenes and captions


def test_captions_are_true_of_their_scene() -> None:
    random = Random(1)
    patterns, relations = set(), set()
    for scene in sample_scenes(150, random, set()):
        objects = {o.color: o for o in (scene.first, scene.second)}
        for caption in describe(scene, random, count=len(scenes._PATTERNS)):
            parsed = parse(caption)
            assert {c for _, c, _ in parsed.objects} == set(objects), caption
            for size, color, shape in parsed.objects:
                assert objects[color].shape == shape, caption
                assert size in ("", objects[color].size), caption
            assert parsed.background in ("", scene.background), caption
            if parsed.axis:
                assert (parsed.axis, parsed.first) == (scene.axis, scene.first.color), caption
            relations.add(parsed.axis)
            patterns.add(NOUN.sub("N", caption.lower()))
    assert relations == {"", "across", "down"}
    assert len(patterns) > 60


@pytest.mark.parametrize(
    "caption",
    [
        "A red circle is to the right of a blue star.",
        "Two shapes, a blue star on the left and a red disc on the right.",
        "A red circle below a blue star.",
    ],
)
def test_parse_detects_false_captions(caption: str) -> None:
    """The test above can fail: these are false of a red circle to the left of a blue star."""
    parsed = parse(caption)
    assert (parsed.axis, parsed.first) != ("across", "red")


def test_scenes_are_never_repeated() -> None:
    taken: set[Scene] = set()
    first = sample_scenes(scenes.NUM_CONTENTS, Random(5), taken)
    second = sample_scenes(scenes.NUM_CONTENTS + 10, Random(5), taken)
    assert len({s.content for s in first}) == scenes.NUM_CONTENTS
    assert len({*first, *second}) == len(taken) == 2 * scenes.NUM_CONTENTS + 10
    for scene in first:
        assert scene.first.shape != scene.second.shape
        assert scene.first.color != scene.second.color


@pytest.mark.parametrize("shape", scenes.SHAPES)
@pytest.mark.parametrize("background", scenes.BACKGROUNDS)
def test_large_is_larger_than_small_on_every_background(shape: str, background: str) -> None:
    other = SceneObject("ring" if shape != "ring" else "star", "blue", "small")
    num_pixels = {}
    for size in scenes.SIZES:
        scene = Scene(SceneObject(shape, "red", size), other, "across", background)
        pixels = np.asarray(draw(scene, Random(0))).astype(int)
        num_pixels[size] = int((np.abs(pixels - COLORS["red"]).max(axis=-1) <= 14).sum())
    assert 60 < 1.8 * num_pixels["small"] < num_pixels["large"]


def test_colors_differ_by_more_than_their_shades() -> None:
    for one, other in itertools.combinations(COLORS.values(), 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 28


# ---------------------------------------------------------------------------- errors


def test_folders_that_are_not_empty_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "used", tmp_path / "file"):
        with pytest.raises(ConfigError, match=f"{out} already exists") as caught:
            make_shapes(out, **SPLIT_SIZES)
        assert caught.value.hint
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "mine.txt", "used"]


def test_an_empty_folder_is_filled_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    make_shapes(Path(), num_train=1, num_val=0, num_test=1)
    assert tmp_path.stat().st_ino == before
    assert read_dataset(tmp_path).splits == {"train": 1, "test": 1}
    assert not list(tmp_path.parent.glob(f".{tmp_path.name}.*"))


@pytest.mark.parametrize("counts", [(0, 0, 0), (-1, 2, 2), (10**6, 0, 0)])
def test_invalid_split_sizes_are_an_error(tmp_path: Path, counts: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match=r"cannot make [\d,-]+ images"):
        make_shapes(tmp_path / "set", 0, *counts)
    assert not list(tmp_path.iterdir())


def test_a_failure_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="no space left on the disk"):
        make_shapes(tmp_path / "set", num_train=1, num_val=1, num_test=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [0, 1])
def test_two_processes_at_once_write_one_complete_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Another process completes the same folder during the rendering, with the same seed or another one."""
    out, few = tmp_path / "set", {"num_train": 2, "num_val": 1, "num_test": 1}
    write = shapes._write_images

    def slow(folder: Path, seed: int, counts: dict[str, int]) -> list[str]:
        monkeypatch.setattr(shapes, "_write_images", write)
        make_shapes(out, **few)
        return write(folder, seed, counts)

    monkeypatch.setattr(shapes, "_write_images", slow)
    with pytest.raises(ConfigError, match="another dataset") if seed else nullcontext():
        make_shapes(out, seed, **few)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    lines = (out / LIST_NAME).read_text().splitlines()
    assert len(lines) == 4
    assert all((out / json.loads(line)["image"]).is_file() for line in lines)
