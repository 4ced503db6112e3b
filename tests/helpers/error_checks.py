"""The check of an error message on the command line, and small datasets for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.types import FeatureMeta

Run = Callable[..., Any]
WORDS = ("red", "green", "blue", "grey")
SMALL = (
    "model.embed_dim=16",
    "model.text_encoder=bow",
    "model.text_encoder.args={word_dim=8}",
    "training.epochs=1",
    "training.log_every=1",
    "training.tensorboard=false",
    "training.precision=fp32",
)
SET = [part for setting in SMALL for part in ("--set", setting)]


def files(*folders: Path) -> dict[Path, bytes]:
    """Every file below the folders, with its content."""
    return {f: f.read_bytes() for folder in folders for f in sorted(folder.rglob("*")) if f.is_file()}


def check_error(outcome: Any, *named: object) -> str:
    """Check that the outcome is an error whose message contains the ``named`` values; returns its hint."""
    assert outcome.code == 1, outcome
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert "this is a bug" not in outcome.err
    *messages, error, hint = outcome.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert not [line for line in messages if line.startswith(("error:", "hint:"))]
    for thing in named:
        assert str(thing) in error
    assert len(hint) > len("hint: ") + 5
    return hint.removeprefix("hint: ")


def write_vectors(folder: Path) -> Path:
    """A dataset with precomputed features: one row per image, two captions per image."""
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "dev", "test")):
        words = np.random.default_rng(seed).integers(len(WORDS), size=(20, 2))
        np.save(folder / f"{split}_ims.npy", np.eye(len(WORDS), dtype=np.float32)[words].sum(1))
        lines = [f"{form} {WORDS[a]} {WORDS[b]}\n" for a, b in words for form in ("a", "the")]
        (folder / f"{split}_caps.txt").write_text("".join(lines))
    return folder


def write_images(folder: Path) -> Path:
    """Eight plain images with one caption per image, half in train, half in val."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(8):
        word = WORDS[number % len(WORDS)]
        Image.new("RGB", (40, 30), word).save(folder / f"{number}.png")
        entry = {"image": f"{number}.png", "captions": [f"a {word} one"], "split": "train" if number < 4 else "val"}
        lines.append(json.dumps(entry) + "\n")
    (folder / "data.jsonl").write_text("".join(lines))
    return folder


class MeanColors:
    """A backbone whose features are the mean red, green and blue of an image. Replaces the default backbone."""

    weights_file = None

    def __init__(self) -> None:
        self.preprocessing = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1)
        self.meta = FeatureMeta("efficientnet-lite2", "0" * 64, "global", 3, self.preprocessing.facts())

    def preprocess(self, image: Image.Image) -> Any:
        return self.preprocessing.pixels(image)

    def to(self, compute: object) -> None: ...

    def encode(self, pixels: Any) -> Any:
        return pixels.float().mean(dim=(2, 3)) / 255
