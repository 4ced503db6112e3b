"""Commands that write, on small data, and what they have written, for the tests of faults.

A world is a folder with photos, datasets, models and a home with an index; each command runs in a copy of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.run_fixtures import write_planted

LEFT = re.compile(r"\..*\.tmp|\.tmp\w{6}|\..*\.build-.*|\..*\.old|.*\.part|.*-(wal|shm|journal)|rebuild\.sqlite")
_TIMES = ("created", "updated", "build", "time", "seconds", "captions_per_s")
SMALL = (
    *("model.embed_dim=16", "model.text_encoder=bow", "model.text_encoder.args={word_dim=8}", "training.epochs=2"),
    *("training.batch_size=32", "training.log_every=1", "training.tensorboard=false", "training.precision=fp32"),
)
SET = [part for setting in SMALL for part in ("--set", setting)]


class World:
    """The folder ``base``, and a copy of it that ``restore`` brings back."""

    def __init__(self, base: Path) -> None:
        self.base, self._saved = base, base.with_name(f"{base.name}-saved")

    @property
    def home(self) -> Path:
        return self.base / "home"

    def save(self) -> None:
        """Keep the folder as it is now."""
        self.base.rename(self._saved)
        self.restore()

    def restore(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)
        shutil.copytree(self._saved, self.base, copy_function=_copy)

    def contents(self) -> dict[str, Any]:
        """What the files contain, without times and random names; and the names of leftovers, as ``left``."""
        found: dict[str, Any] = {"left": []}
        for path in sorted(self.base.rglob("*")):
            name = str(path.relative_to(self.base))
            if LEFT.fullmatch(path.name):
                found["left"].append(name)
            elif any(LEFT.fullmatch(part) for part in path.relative_to(self.base).parts) or path.name.endswith(".lock"):
                continue  # a lock file that a killed process leaves is not locked, and is used by the next one
            elif path.is_file() and "segments" not in path.parts:
                found[name] = _content(path)
        return found


def _copy(source: str, target: str) -> None:
    """Link exported networks, which are never changed in place."""
    (os.link if "/cache/" in source else shutil.copy2)(source, target)


def _content(path: Path) -> Any:
    if path.name == "items.sqlite":
        return _index_content(path.parent)
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix in (".json", ".jsonl"):
        with contextlib.suppress(ValueError):
            return [_without_times(json.loads(line)) for line in _lines_of_json(path)]
    return path.read_bytes()


def _lines_of_json(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in (*_TIMES, "sha256", "files", "checksum")}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _tensors(path: Path) -> Any:
    from safetensors.numpy import load_file

    return {name: (value.shape, value.tobytes()) for name, value in load_file(path).items()}


def _index_content(folder: Path) -> Any:
    """Photos with their facts, captions and vectors, in the order of paths."""
    import sqlite3

    from xmodal_cli.retrieval.index import open_index

    with contextlib.closing(sqlite3.connect(folder / "items.sqlite")) as database:
        rows = database.execute(
            "SELECT path, size, digest, width, height, caption, segment, position FROM items ORDER BY path"
        ).fetchall()
        live = [row[0] for row in database.execute("SELECT id FROM segments ORDER BY id")]
    with open_index(folder) as index:
        parts = dict(zip(live, index.vectors.parts, strict=True))
        vectors = [parts[row[6]].take(np.array([row[7]]))[0].tobytes() for row in rows]
    num_files = len(list((folder / "segments").iterdir())) if (folder / "segments").exists() else 0
    return [row[:6] for row in rows], vectors, num_files == len(live)


@dataclass(frozen=True)
class WritingCommand:
    """``args`` of a world; ``again`` are those with which it is repeated after a fault, if they are others."""

    name: str
    args: Callable[[World], list[Any]]
    prepare: Callable[[World], None] = lambda world: None
    again: Callable[[World], list[Any]] | None = None
    is_move: bool = False  # of an index: it cannot be repeated when its first step was done

    def repeat(self, world: World) -> list[Any]:
        return (self.again or self.args)(world)


def make_world(base: Path, run: Callable[..., Any], is_full: bool = True) -> World:
    """Write a world; ``run`` runs a command line in its home. Unless it is full, it has no models."""
    world = World(base)
    photos = base / "photos"
    photos.mkdir(parents=True)
    for i in range(6):
        write_photo(photos / f"{i}.jpg", i)
    write_planted(base / "vectors", sizes={"train": 40, "val": 10, "test": 10})
    lines = [{"image": f"../photos/{i}.jpg", "captions": [f"a photo of {i}"], "split": "train"} for i in range(6)]
    (base / "data").mkdir()
    for i in range(6):
        shutil.copy(photos / f"{i}.jpg", base / "data")
    lines = [{"image": f"{i}.jpg", "captions": [f"a photo {i}"], "split": "train"} for i in range(6)]
    (base / "data" / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (base / "clip" / "img_emb").mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(base / "clip" / "img_emb" / "img_emb_0.npy", rng.standard_normal((40, 12)).astype(np.float32))
    run("index", photos, "--index", "old")
    if is_full:
        run("train", "--model", "vse", "--data", base / "vectors", *SET, "--out", base / "run", "--device", "cpu")
        run("caption", photos / "0.jpg")
    world.save()
    return world


def write_photo(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(path, quality=95)


def _change_photos(world: World) -> None:
    (world.base / "photos" / "0.jpg").unlink()
    (world.base / "photos" / "1.jpg").rename(world.base / "photos" / "moved.jpg")
    write_photo(world.base / "photos" / "2.jpg", 20)
    for i in range(10, 13):
        write_photo(world.base / "photos" / f"{i}.jpg", i)


def _train(world: World, *more: str) -> list[Any]:
    return ["train", "--model", "vse", "--data", world.base / "vectors", *SET, "--out", world.base / "new", *more]


COMMANDS = (
    WritingCommand("index", lambda w: ["index", w.base / "photos", "--index", "new"]),
    WritingCommand("index update", lambda w: ["index", w.base / "photos", "--index", "old"], _change_photos),
    WritingCommand("index rebuild", lambda w: ["index", "--index", "old", "--rebuild"], _change_photos),
    WritingCommand(
        "first index", lambda w: ["index", w.base / "photos", "--index", "new"], lambda w: shutil.rmtree(w.home)
    ),
    WritingCommand("index rename", lambda w: ["index", "--rename", "old", "renamed"], is_move=True),
    WritingCommand("index delete", lambda w: ["index", "--delete", "old"], is_move=True),
    WritingCommand(
        "vectors import",
        lambda w: ["vectors", "import", w.base / "clip", "--index", "clip"],
        again=lambda w: ["vectors", "import", w.base / "clip", "--index", "clip", "--rebuild"],
    ),
    WritingCommand("vectors commit", lambda w: ["vectors", "commit", "old", "--index", "joined"]),
    WritingCommand("vectors export", lambda w: ["vectors", "export", w.base / "arrays", "--index", "old"]),
    WritingCommand("features", lambda w: ["features", w.base / "data", "--out", w.base / "features"]),
    WritingCommand(
        "features of a model",
        lambda w: ["features", w.base / "vectors", "--model", w.base / "run", "--out", w.base / "x.npz"],
    ),
    WritingCommand("caption --write", lambda w: ["caption", w.base / "photos", "--write", "txt", "--beam", "1"]),
    WritingCommand("caption --index", lambda w: ["caption", "--index", "old", "--beam", "1"]),
    WritingCommand(
        "caption --attention",
        lambda w: ["caption", w.base / "photos" / "1.jpg", "--attention", w.base / "maps", "--force", "--beam", "1"],
    ),
    WritingCommand(
        "eval",
        lambda w: [
            *("eval", w.base / "run", "--data", w.base / "vectors"),
            *("--ranks", w.base / "ranks.jsonl", "--report", w.base / "report"),
        ],
    ),
    WritingCommand("train", _train, again=lambda w: _train(w, "--resume")),
    WritingCommand("data add", lambda w: ["data", "add", "mine", w.base / "data"]),
    WritingCommand("data make", lambda w: ["data", "make", "shapes", w.base / "shapes"]),
    WritingCommand("models default", lambda w: ["models", "default", w.base / "run"]),
    WritingCommand(
        "models average",
        lambda w: ["models", "average", w.base / "run", w.base / "run", "--out", w.base / "a.safetensors", "--force"],
    ),
    WritingCommand(
        "search files",
        lambda w: [
            *("search", "a photo", "--index", "old", "--sheet", w.base / "s.png", "--html", w.base / "s.html"),
            *("--copy-to", w.base / "copies"),
        ],
    ),
)
BY_NAME = {command.name: command for command in COMMANDS}
