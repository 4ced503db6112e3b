"""Mutated files for every reader: seeded, so that a failure can be repeated from its kind and number.

``python -m helpers.fuzzing --count 300000`` prints a table, one row per kind; run it in ``tests`` with the package on
the path. Failures are written to the folder ``--keep``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

from helpers import files_of_data, files_of_models, files_of_settings
from helpers.damage import VALUES, Kind, check
from helpers.index_fixtures import PhotoIndexFixture
from helpers.small_datasets import DATASETS
from xmodal_cli import paths
from xmodal_cli.data.archives import extract
from xmodal_cli.data.images import ImageReader
from xmodal_cli.data.reading import read_dataset
from xmodal_cli.errors import XmodalError
from xmodal_cli.reporter import SILENT
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.integrity import check_index

SECONDS, PEAK_MB = 10, 1024  # limits of one input
INTERESTING = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
TEXTS = (b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b'"', b"\\", b"[", b"{", b"nan", b"-1", b"1e999", b"../")


def make_dataset(write: Callable[[Path], None], name: str, folder: Path) -> Path:
    (folder / "set").mkdir()
    write(folder / "set")
    return folder / "set" / name


def read_folder(depth: int, file: Path) -> None:
    dataset = read_dataset(file.parents[depth])
    for example in dataset.examples[:20]:
        assert isinstance(example.captions, tuple)


def dataset_kinds() -> dict[str, Kind]:
    """The text files of small datasets in all formats."""
    kinds = {}
    for format, write in DATASETS.items():
        with tempfile.TemporaryDirectory() as temporary:
            write(Path(temporary))
            files = [f.relative_to(temporary) for f in Path(temporary).rglob("*") if f.is_file() and f.stat().st_size]
        for name in files:
            read = partial(read_folder, len(name.parts) - 1)
            kinds[f"dataset {format}: {name}"] = Kind(partial(make_dataset, write, str(name)), read, "set")
    return kinds


def make_image(suffix: str, folder: Path) -> Path:
    rows = np.random.default_rng(0).integers(0, 255, (24, 31, 3), np.uint8)
    file = folder / f"photo.{suffix}"
    Image.fromarray(rows).save(file)
    return file


def read_image(file: Path) -> None:
    ImageReader().open(file)
    ImageReader(strict=True).open(file, 64)


def make_archive(format: str, folder: Path) -> Path:
    (folder / "content" / "inside").mkdir(parents=True)
    (folder / "content" / "inside" / "captions.txt").write_text("a.jpg#0\tA dog\n" * 3)
    return Path(shutil.make_archive(str(folder / "archive"), format, folder / "content"))


def read_archive(file: Path) -> None:
    target = file.parent / "extracted"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    extract(file, target, (), SILENT)


def make_index(folder: Path, name: str = ITEMS) -> Path:
    photos = PhotoIndexFixture(folder)
    photos.fill(12)
    photos.update()
    return photos.index_folder / ITEMS if name == ITEMS else photos.segments()[0]


def read_index(file: Path) -> None:
    folder = file.parent if file.name == ITEMS else file.parents[1]
    with open_index(folder) as index:
        entries = list(index.items.all_items())
        index.vectors.take(index.vectors.rows_of(entries))
    check_index(folder)


KINDS: dict[str, Kind] = {
    **files_of_data.KINDS,
    **files_of_models.KINDS,
    **files_of_settings.KINDS,
    **dataset_kinds(),
    **{f"image {suffix}": Kind(partial(make_image, suffix), read_image) for suffix in ("jpg", "png", "gif", "webp")},
    **{f"image {suffix}": Kind(partial(make_image, suffix), read_image) for suffix in ("bmp", "tif", "ppm")},
    **{f"archive {name}": Kind(partial(make_archive, name), read_archive) for name in ("zip", "tar", "gztar")},
    "index: items.sqlite": Kind(make_index, read_index, "indexes/family"),
    "index: segment": Kind(partial(make_index, name="segment"), read_index, "indexes/family"),
}


# ---------------------------------------------------------------------------- mutations


def mutate(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Other content: changed structure where the content has one, and changed bytes."""
    choice = rng.random()
    if choice < 0.4 and (changed := _change_structure(content, rng)) is not None:
        return changed
    if choice > 0.97:
        return rng.choice(others)
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        _change_bytes(damaged, rng, others)
    return bytes(damaged)


def _change_bytes(damaged: bytearray, rng: random.Random, others: list[bytes]) -> None:
    at = rng.randrange(len(damaged) + 1) if rng.random() < 0.5 else rng.randrange(min(len(damaged), 200) + 1)
    length = rng.choice((1, 1, 2, 4, 8, 32))
    match rng.randrange(8):
        case 0:
            if damaged:
                damaged[at % len(damaged)] ^= 1 << rng.randrange(8)
        case 1:
            damaged[at : at + length] = rng.randbytes(length)
        case 2:
            del damaged[at : at + length * rng.choice((1, 10, 1000))]
        case 3:
            damaged[at:at] = rng.choice(TEXTS) * rng.choice((1, 1, 3, 5000))
        case 4:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice(INTERESTING) % 256**size
            damaged[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        case 5:
            damaged[at:at] = damaged[at : at + length * 10]
        case 6:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            damaged[at : at + length] = other[start : start + length * 10]
        case _:
            del damaged[at:]


def _change_structure(content: bytes, rng: random.Random) -> bytes | None:
    """Content with another value in its JSON, header or table; None if it has none of these."""
    with_header = len(content) > 8 and int.from_bytes(content[:8], "little") < len(content)
    if with_header:
        end = 8 + int.from_bytes(content[:8], "little")
        header = _changed_json(content[8:end], rng)
        return None if header is None else len(header).to_bytes(8, "little") + header + content[end:]
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    if (changed := _changed_json(content, rng)) is not None:
        return changed
    if (line := _changed_json(lines[at], rng)) is not None:
        return b"\n".join([*lines[:at], line, *lines[at + 1 :]])
    for delimiter in (b"\t", b",", b"|"):
        if delimiter in lines[at]:
            cells = lines[at].split(delimiter)
            cells[rng.randrange(len(cells))] = rng.choice((*TEXTS, b"9" * 30, b"x" * 100_000))
            return b"\n".join([*lines[:at], delimiter.join(cells), *lines[at + 1 :]])
    return None


def _changed_json(text: bytes, rng: random.Random) -> bytes | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict | list) or not value:
        return None
    holder: Any = value
    while True:
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        inner = holder[key]
        if isinstance(inner, str) and inner[:1] in "{[" and (deeper := _changed_json(inner.encode(), rng)):
            holder[key] = deeper.decode()
            break
        if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.2:
            _change_entry(holder, key, rng)
            break
        holder = inner
    return json.dumps(value).encode()


def _change_entry(holder: Any, key: Any, rng: random.Random) -> None:
    if rng.random() < 0.2:
        del holder[key]
    elif isinstance(holder[key], int | float) and rng.random() < 0.5:
        holder[key] = rng.choice((*INTERESTING, -1, -(2**40), 0.5, 1e308, float("nan"), float("inf")))
    elif isinstance(holder, list) and rng.random() < 0.3:
        holder.extend([holder[key]] * rng.choice((1, 1000)))
    else:
        holder[key] = rng.choice(VALUES)


# ---------------------------------------------------------------------------- a run


@dataclass
class Tally:
    """What happened to the inputs of one kind; ``seconds`` is the longest time of one."""

    num_inputs: int = 0
    num_refused: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


class Hang(Exception):
    """Reading an input took longer than SECONDS of the processor, or six times as long with waiting."""


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hang

    before = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class Fuzzer:
    """Reads mutations of the file of one kind, in an own folder."""

    def __init__(self, name: str, folder: Path, keep: Path | None = None) -> None:
        self.name, self.kind, self.keep, self.tally = name, KINDS[name], keep, Tally()
        self.folder = folder / "".join(c if c.isalnum() else "-" for c in name)
        self.folder.mkdir()
        self.file = self.kind.make(self.folder)
        self.content = self.file.read_bytes()
        check(self.kind, self.file)  # imports what reading needs
        self.others = [self.content, b"", b"\0" * 1000, b"null", b"[" * 50_000, _table()]

    def run(self, number: int) -> None:
        """Read the input with this number."""
        rng = random.Random(f"{self.name} {number}")
        damaged = mutate(self.content, rng, self.others)
        self.file.write_bytes(damaged)
        started = time.monotonic()
        try:
            with time_limit():
                self.tally.num_refused += check(self.kind, self.file)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._record(number, damaged, error)
        self.tally.num_inputs += 1
        self.tally.seconds = max(self.tally.seconds, time.monotonic() - started)

    def _record(self, number: int, damaged: bytes, error: BaseException) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        self.tally.failures.append(f"{self.name} {number}: {type(error).__name__} {str(error)[:150]!r} {where}")
        if self.keep is not None:
            target = self.keep / self.folder.name
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{number}").write_bytes(damaged)

    def close(self) -> None:
        """Read the valid file again: no input may have changed what other files hold."""
        self.file.write_bytes(self.content)
        try:
            refused = check(self.kind, self.file)
        except XmodalError as error:
            refused, _ = True, error
        if refused:
            self.tally.failures.append(f"{self.name}: the valid file is refused after the run")


def _table() -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([["image", "caption"], ["a.jpg", "A dog"]])
    return text.getvalue().encode()


def peak_mb() -> float:
    """The peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(numbers: range, folder: Path, names: list[str] | None = None, keep: Path | None = None) -> dict[str, Tally]:
    """Read one input per kind and number; the folder has no other files afterwards."""
    tallies = {}
    for name in names or list(KINDS):
        fuzzer = Fuzzer(name, folder, keep)
        before = set(folder.iterdir())
        for number in numbers:
            fuzzer.run(number)
        fuzzer.close()
        if outside := set(folder.iterdir()) - before:
            fuzzer.tally.failures.append(f"{name}: wrote {sorted(map(str, outside))}")
        tallies[name] = fuzzer.tally
        shutil.rmtree(fuzzer.folder, ignore_errors=True)
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--keep", type=Path, default=None)
    parser.add_argument("--kinds", nargs="*", default=None)
    options = parser.parse_args()
    names = options.kinds or list(KINDS)
    paths.home().mkdir(parents=True, exist_ok=True)
    per_kind = max(1, options.count // len(names))
    total = Tally()
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            started = time.monotonic()
            numbers = range(options.first, options.first + per_kind)
            tally = fuzz(numbers, Path(temporary), [name], options.keep)[name]
            print(
                f"{name}: {tally.num_inputs} inputs, {tally.num_refused} refused, {len(tally.failures)} failures, "
                f"longest {tally.seconds:.2f} s, all {time.monotonic() - started:.0f} s, peak {peak_mb():.0f} MB",
                flush=True,
            )
            for failure in tally.failures[:5]:
                print(f"    {failure}", flush=True)
            total.num_inputs += tally.num_inputs
            total.failures += tally.failures
    print(f"{total.num_inputs} inputs, {len(total.failures)} failures, peak {peak_mb():.0f} MB")
    sys.exit(bool(total.failures) or peak_mb() > PEAK_MB)


if __name__ == "__main__":
    main()
