"""The generated ``shapes`` dataset: images of two colored shapes with five captions each. Used by the demo and tests.

The same seed and split sizes give the same captions and pixels. The format is JSON Lines (``shapes.jsonl``, written
last) next to a folder of PNG files.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from xmodal_cli.data.scenes import COLORS, NUM_SCENES, Scene, SceneObject, describe, sample_scenes
from xmodal_cli.drafts import draft_folder
from xmodal_cli.errors import ConfigError
from xmodal_cli.output_files import check_output_folder
from xmodal_cli.paths import make_folder, storage_errors, write_text

SIDE = 128  # pixels
LIST_NAME = "shapes.jsonl"

_SCALE = 3  # supersampling, for smooth edges
_RADIUS = {"large": 0.21, "small": 0.125}  # fractions of the image's side
_PLAIN = {"white": (246, 246, 246), "black": (24, 24, 24), "grey": (150, 150, 150)}
_PAPER, _INK = (236, 236, 236), (186, 192, 200)  # of the patterned backgrounds

Point = tuple[float, float]


def make_shapes(out: Path, seed: int = 0, num_train: int = 1200, num_val: int = 150, num_test: int = 150) -> Path:
    """Write the dataset to the folder ``out`` and return it. All scenes are different.

    In val and in test (up to 784 images each) no two images have the same shapes and colors, so that each caption
    describes one image best. Raises ConfigError for invalid split sizes or a folder that is not empty.
    """
    counts = {"test": num_test, "val": num_val, "train": num_train}
    _check(out, counts)
    target = out.absolute()  # the name of `.` is empty
    make_folder(target.parent)
    with storage_errors(out, creating=True), draft_folder(target) as draft:
        (draft / "images").mkdir()
        lines = _write_images(draft, seed, counts)
        write_text(draft / LIST_NAME, "".join(lines))
        _move_draft(draft, out)
    return out


def scenes_in_test_split(seed: int = 0, num_test: int = 150) -> list[Scene]:
    """The scenes of the test images, in order, against which captions can be checked; they are not stored in a file.

    ``seed`` and ``num_test`` are those of ``make_shapes``.
    """
    return sample_scenes(num_test, Random(f"shapes/{seed}/test"), set())


def _check(out: Path, counts: dict[str, int]) -> None:
    total = sum(counts.values())
    if min(counts.values()) < 0 or not 0 < total <= NUM_SCENES // 4:
        raise ConfigError(
            f"cannot make {total:,} images of shapes",
            f"set no split size below 0, and a total from 1 to {NUM_SCENES // 4:,}",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} already exists and is not an empty folder", "use a new folder, or remove that one")
    check_output_folder(out)


def _move_draft(draft: Path, out: Path) -> None:
    try:
        if out.is_dir():  # keep the folder: it may be a shell's working directory
            for name in ("images", LIST_NAME):
                (draft / name).replace(out / name)
        else:
            draft.replace(out)
    except OSError as error:
        if not (out / LIST_NAME).is_file():
            raise
        if (out / LIST_NAME).read_bytes() != (draft / LIST_NAME).read_bytes():  # else it is the same dataset
            hint = "use a new folder, or remove that one"
            raise ConfigError(f"another process has written another dataset to {out}", hint) from error


def _write_images(folder: Path, seed: int, counts: dict[str, int]) -> list[str]:
    """Draw and save all images; returns the lines of the JSON Lines file, train first."""
    taken: set[Scene] = set()
    lines: dict[str, list[str]] = {}
    for split, count in counts.items():
        random = Random(f"shapes/{seed}/{split}")
        lines[split] = []
        for index, scene in enumerate(sample_scenes(count, random, taken)):
            name = f"images/{split}-{index:05d}.png"
            draw(scene, random).save(folder / name, compress_level=3)
            entry = {"image": name, "captions": describe(scene, random), "split": split}
            lines[split].append(json.dumps(entry) + "\n")
    return [line for split in ("train", "val", "test") for line in lines[split]]


# ---------------------------------------------------------------------------- drawing


def draw(scene: Scene, random: Random) -> Image.Image:
    """The scene as a SIDE x SIDE RGB image, with small random changes of position, size, shade and rotation."""
    side = SIDE * _SCALE
    image = _background(scene.background, side, random)
    pen = ImageDraw.Draw(image)
    middle = random.uniform(0.42, 0.58)
    for obj, along in ((scene.first, random.uniform(0.24, 0.29)), (scene.second, random.uniform(0.71, 0.76))):
        across = middle + random.uniform(-0.06, 0.06)
        center = (along, across) if scene.axis == "across" else (across, along)
        _draw_object(pen, obj, (center[0] * side, center[1] * side), side, random)
    return image.reduce(_SCALE)


def _draw_object(pen: ImageDraw.ImageDraw, obj: SceneObject, center: Point, side: int, random: Random) -> None:
    radius = side * _RADIUS[obj.size] * random.uniform(0.94, 1.06)
    shade = random.randint(-14, 14)
    red, green, blue = (max(0, min(255, level + shade)) for level in COLORS[obj.color])
    angle = random.uniform(-0.18, 0.18)  # radians
    if obj.shape == "ring":
        pen.ellipse(_box(center, radius), outline=(red, green, blue), width=round(radius * 0.42))
        return
    points = [_transform(point, center, radius, angle) for point in _OUTLINES[obj.shape]]
    pen.polygon(points, fill=(red, green, blue))


def _box(center: Point, radius: float) -> tuple[float, float, float, float]:
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius


def _transform(point: Point, center: Point, radius: float, angle: float) -> Point:
    """The point rotated by ``angle``, scaled by ``radius`` and moved to ``center``."""
    x, y = point
    cosine, sine = math.cos(angle), math.sin(angle)
    return center[0] + radius * (x * cosine - y * sine), center[1] + radius * (x * sine + y * cosine)


def _heart_height(t: float) -> float:
    return 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)


def _polar(degrees: float, radius: float = 1.0) -> Point:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _quarter_turns(points: list[Point]) -> list[Point]:
    """The points, and their rotations about the origin by 90, 180 and 270 degrees."""
    rotated = list(points)
    for _ in range(3):
        points = [(-y, x) for x, y in points]
        rotated += points
    return rotated


# polygons centered on the origin with a radius of about 1; y points down; the ring is an ellipse with a wide outline
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
