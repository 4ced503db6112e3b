"""The generated sample set: pictures of two coloured shapes, five sentences each. The default data of demo and tests.

The same seed and numbers give the same captions, byte for byte, and the same pixels. Written as JSON Lines
(``shapes.jsonl``, which is written last) beside a folder of PNG files.
"""

from __future__ import annotations

import json
import math
import shutil
import uuid
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from xmodal_cli.data.scenes import COLOURS, NUM_SCENES, Scene, Thing, describe, draw_scenes
from xmodal_cli.errors import ConfigError
from xmodal_cli.paths import storage_errors, write_text

SIDE = 128  # pixels
LIST_NAME = "shapes.jsonl"

_SCALE = 3  # drawn larger and reduced, which smooths the edges
_RADIUS = {"large": 0.21, "small": 0.125}  # of the picture's side
_PLAIN = {"white": (246, 246, 246), "black": (24, 24, 24), "grey": (150, 150, 150)}
_PAPER, _INK = (236, 236, 236), (186, 192, 200)  # of the patterned backgrounds

Point = tuple[float, float]


def make_shapes(out: Path, seed: int = 0, num_train: int = 1200, num_val: int = 150, num_test: int = 150) -> Path:
    """Write the set into the folder ``out`` and return it. No two pictures show the same scene.

    Within val and within test (up to 784 pictures) no two pictures even share shapes and colours, so that each
    sentence fits one picture best. Raises ConfigError for numbers that cannot be had or a folder that is in use.
    """
    numbers = {"test": num_test, "val": num_val, "train": num_train}
    _check(out, numbers)
    place = out.absolute()  # `.` has no name of its own
    draft = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with storage_errors(out):
            (draft / "images").mkdir(parents=True)
            lines = _write_pictures(draft, seed, numbers)
            write_text(draft / LIST_NAME, "".join(lines))
            _move_in(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def scenes_of_test(seed: int = 0, num_test: int = 150) -> list[Scene]:
    """What the pictures of the test split show, in their order: the truth about sentences, which no file tells.

    ``seed`` and ``num_test`` are those that the set was made with.
    """
    return draw_scenes(num_test, Random(f"shapes/{seed}/test"), set())


def _check(out: Path, numbers: dict[str, int]) -> None:
    if min(numbers.values()) < 0 or not 0 < sum(numbers.values()) <= NUM_SCENES // 4:
        raise ConfigError(
            f"cannot make {sum(numbers.values()):,} pictures of shapes",
            f"ask for numbers from 0 up, between 1 and {NUM_SCENES // 4:,} in all",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists already and is not an empty folder", "name a new folder, or remove that one")


def _move_in(draft: Path, out: Path) -> None:
    try:
        if out.is_dir():  # stays the same folder: a shell may stand in it
            for name in ("images", LIST_NAME):
                (draft / name).replace(out / name)
        else:
            draft.replace(out)
    except OSError:
        if not (out / LIST_NAME).is_file():  # otherwise another process was quicker, with the same set
            raise


def _write_pictures(folder: Path, seed: int, numbers: dict[str, int]) -> list[str]:
    """Draw and save every picture; the lines of the list, train first."""
    taken: set[Scene] = set()
    lines: dict[str, list[str]] = {}
    for split, count in numbers.items():
        random = Random(f"shapes/{seed}/{split}")
        lines[split] = []
        for number, scene in enumerate(draw_scenes(count, random, taken)):
            name = f"images/{split}-{number:05d}.png"
            draw(scene, random).save(folder / name, compress_level=3)
            entry = {"image": name, "captions": describe(scene, random), "split": split}
            lines[split].append(json.dumps(entry) + "\n")
    return [line for split in ("train", "val", "test") for line in lines[split]]


# ---------------------------------------------------------------------------- drawing


def draw(scene: Scene, random: Random) -> Image.Image:
    """The scene as a SIDE x SIDE RGB picture; place, shade and turn vary a little."""
    side = SIDE * _SCALE
    image = _background(scene.background, side, random)
    pen = ImageDraw.Draw(image)
    middle = random.uniform(0.42, 0.58)
    for thing, along in ((scene.first, random.uniform(0.24, 0.29)), (scene.second, random.uniform(0.71, 0.76))):
        across = middle + random.uniform(-0.06, 0.06)
        centre = (along, across) if scene.axis == "across" else (across, along)
        _draw_thing(pen, thing, (centre[0] * side, centre[1] * side), side, random)
    return image.reduce(_SCALE)


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, centre: Point, side: int, random: Random) -> None:
    radius = side * _RADIUS[thing.size] * random.uniform(0.94, 1.06)
    shade = random.randint(-14, 14)
    red, green, blue = (max(0, min(255, level + shade)) for level in COLOURS[thing.colour])
    turn = random.uniform(-0.18, 0.18)  # radians
    if thing.shape == "ring":
        pen.ellipse(_box(centre, radius), outline=(red, green, blue), width=round(radius * 0.42))
        return
    points = [_place(point, centre, radius, turn) for point in _OUTLINES[thing.shape]]
    pen.polygon(points, fill=(red, green, blue))


def _box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _place(point: Point, centre: Point, radius: float, turn: float) -> Point:
    x, y = point
    cosine, sine = math.cos(turn), math.sin(turn)
    return centre[0] + radius * (x * cosine - y * sine), centre[1] + radius * (x * sine + y * cosine)


def _heart_height(t: float) -> float:
    return 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)


def _polar(degrees: float, radius: float = 1.0) -> Point:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _quarter_turns(points: list[Point]) -> list[Point]:
    """The points, and the same turned about the origin by 90, 180 and 270 degrees."""
    turned = list(points)
    for _ in range(3):
        points = [(-y, x) for x, y in points]
        turned += points
    return turned


# polygons about the origin, about the size of the unit circle; y points down; the ring is drawn with a wide pen
_OUTLINES: dict[str, list[Point]] = {
    "circle": [_polar(5.0 * n) for n in range(72)],
    "square": _quarter_turns([(-0.8, -0.8)]),
    "triangle": [(0.0, -1.0), (0.95, 0.8), (-0.95, 0.8)],
    "star": [_polar(36.0 * n - 90, 1.05 if n % 2 == 0 else 0.42) for n in range(10)],
    "cross": _quarter_turns([(-0.3, -1.0), (0.3, -1.0), (0.3, -0.3)]),
    "heart": [(math.sin(t) ** 3, -_heart_height(t) / 16) for t in (math.radians(6 * n) for n in range(60))],
    "moon": [
        *(_polar(a) for a in range(50, 311, 5)),
        *((x + 0.75, y) for x, y in (_polar(a, 0.775) for a in range(262, 97, -5))),
    ],
}


def _background(kind: str, side: int, random: Random) -> Image.Image:
    if kind in _PLAIN:
        shade = random.randint(-9, 9)
        red, green, blue = (level + shade for level in _PLAIN[kind])
        return Image.new("RGB", (side, side), (red, green, blue))
    image = Image.new("RGB", (side, side), _PAPER)
    pen = ImageDraw.Draw(image)
    step = side // 8
    shift = random.randrange(step)
    for row in range(-1, 9):
        top = row * step + shift
        if kind == "striped":
            pen.rectangle((top, 0, top + step // 2, side), fill=_INK)
            continue
        for column in range(-1, 9):
            left = column * step + shift
            if kind == "dotted":
                pen.ellipse((left, top, left + step // 2, top + step // 2), fill=_INK)
            elif (row + column) % 2 == 0:
                pen.rectangle((left, top, left + step - 1, top + step - 1), fill=_INK)
    return image
