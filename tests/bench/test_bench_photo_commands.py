"""The processor time of commands for photos, a whole process each, against the imports that they need.

As CPU time of the same machine in the same run, since other processes change the wall-clock time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.bench

IMPORTS = "import numpy, onnxruntime, tokenizers, PIL.Image"
ROUNDS = 5
MAX_RATIO = 6.0  # to the imports; with torch the ratio is 25 or more


def cpu_seconds(*command: str) -> float:
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def paint(file: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)
    return file


def test_photo_commands_take_little_more_than_their_imports(tmp_path, tmp_path_factory, report):
    query = paint(tmp_path_factory.mktemp("query") / "query.jpg", 1000)
    for n in range(20):
        paint(tmp_path / f"{n}.jpg", n)
    xmodal = (sys.executable, "-m", "xmodal_cli")
    commands = {
        "caption": (*xmodal, "caption", str(query), "--beam", "5"),
        "search with a photo": (*xmodal, "search", str(query)),
        "index after one added photo": (*xmodal, "index", str(tmp_path)),
    }
    for command in reversed(commands.values()):  # exports the models
        cpu_seconds(*command)
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    for n in range(ROUNDS):
        imports = cpu_seconds(sys.executable, "-c", IMPORTS)
        shutil.copy(paint(tmp_path_factory.mktemp("new") / f"new{n}.jpg", 2000 + n), tmp_path)
        for name, command in commands.items():
            ratios[name].append(cpu_seconds(*command) / imports)
    for name, found in ratios.items():
        report(name, f"{np.median(found):.1f} times the CPU time of the imports")
    assert max(float(np.median(found)) for found in ratios.values()) <= MAX_RATIO
