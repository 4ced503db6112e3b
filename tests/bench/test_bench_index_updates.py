"""``xmodal index`` of a folder of 100,000 photos in which nothing or one photo has changed, against listing the folder.

Complete processes, and their processor time, of which that for a small folder is subtracted. XMODAL_BENCH_PHOTOS sets
the number of photos.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.large_index import write_large_index
from PIL import Image

from xmodal_cli.data.scan import scan
from xmodal_cli.inference.index_models import describe_matcher, to_index_model

COUNT, ROUNDS, PER_FOLDER = int(os.environ.get("XMODAL_BENCH_PHOTOS", "100000")), 3, 1000
OF_LISTING, PEAK_MB = 6.0, 400

pytestmark = [
    pytest.mark.bench,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="uses hard links and the memory of child processes"),
]

LISTING = """
import os, sys
def walk(folder):
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry.path)
            else:
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns
print(len(list(walk(sys.argv[1]))))
"""
RUN = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


class _VectorRows:
    """Random unit vectors (rows, dim), computed when they are read."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def __getitem__(self, rows: Any) -> np.ndarray:
        vectors = np.random.default_rng(int(rows[0])).standard_normal((len(rows), self.dim), dtype=np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def fill(folder: Path, count: int) -> None:
    """Names of a few small files."""
    folder.mkdir()
    for i in range(count):
        source = folder.parent / f"{i // 30_000}.jpg"  # file systems limit the number of links
        if not source.exists():
            Image.new("RGB", (20, 20), (i % 251, 7, 9)).save(source)
        target = folder / f"{i // PER_FOLDER}" / f"IMG_{i:06}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.hardlink_to(source)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A large and a small folder, each with an index of the default matcher."""
    base = tmp_path_factory.mktemp("updates")
    model = to_index_model(describe_matcher("starter"))
    for name, count in (("large", COUNT), ("small", 100)):
        fill(base / name, count)
        index = base / "home" / "indexes" / name
        write_large_index(index, base / name, scan([base / name]).files, _VectorRows(model.embed_dim), model)  # type: ignore[arg-type]
    yield {name: base / name for name in ("large", "small")}


def used(environment: dict[str, str], *command: object) -> tuple[float, float]:
    """Seconds of the processor, and peak memory in MB, of a command."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, command)], env=environment, capture_output=True, text=True, check=True
    )
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def test_updates_of_a_large_folder_against_listing_it(folders: dict[str, Path], report: Any) -> None:
    environment = {**os.environ, "XMODAL_HOME": str(folders["large"].parent / "home")}
    seconds: dict[str, list[float]] = {name: [] for name in ("list", "same", "added", "small")}
    peak = 0.0
    for turn in range(ROUNDS + 1):
        large, small = ((sys.executable, "-m", "xmodal_cli", "index", folders[name]) for name in ("large", "small"))
        new = folders["large"] / "0" / f"new{turn}.jpg"
        taken = {"list": used(environment, sys.executable, "-c", LISTING, folders["large"])}
        taken["small"] = used(environment, *small)
        taken["same"] = used(environment, *large)
        Image.new("RGB", (30, 30), (turn, 99, 3)).save(new)
        taken["added"] = used(environment, *large)
        for name, (took, memory) in taken.items():
            if turn:  # the first run measures the recall, and exports the encoder
                seconds[name].append(took)
                peak = max(peak, memory)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    report(
        f"xmodal index, {COUNT:,} photos: unchanged, one added",
        f"{medians['same']:.2f} s, {medians['added']:.2f} s, at most {peak:.0f} MB; a folder of 100 photos "
        f"{medians['small']:.2f} s; os.scandir and stat {medians['list']:.2f} s",
    )
    assert medians["same"] - medians["small"] <= OF_LISTING * medians["list"]
    assert peak <= PEAK_MB
