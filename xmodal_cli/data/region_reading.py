"""Regions that a detector elsewhere made, in whatever format they come, chosen by looking at the path.

They are found by an image's id or its file's name; nothing larger than one image's regions is in memory.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from xmodal_cli import catalog
from xmodal_cli.data.region_records import Regions
from xmodal_cli.errors import BadData, MissingData

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".npy", ".npz")
SAMPLE = 8  # images whose width is looked at


@dataclass(frozen=True)
class RegionSource:
    """An open set of regions.

    ``fingerprint`` is a sha256 of its files' names, sizes and times of change, enough to tell that it is the same.
    """

    path: Path
    format: str
    fingerprint: str
    num_bytes: int

    def find(self, names: Sequence[str]) -> str | None:
        """The name that an image has here, of those it goes by, most telling first; None where it is not here.

        An exact name goes before one that differs in folder, ending, leading zeros or COCO's prefix.
        """
        for name in names:
            if name in self._places:
                return name
        return next((self._plain[plain_name(n)] for n in names if plain_name(n) in self._plain), None)

    def read(self, name: str) -> Regions:
        """The regions of the image that is called ``name`` here. Raises BadData naming file, line and reason."""
        try:
            regions: Regions = self._module.read(self._places[name])
            return regions
        except OSError as error:
            raise BadData(f"{self.path} cannot be read: {error.strerror}", "was it removed in the meantime?") from error

    def width(self) -> int:
        """Features of a region: the commonest width among a few images. Raises BadData where none can be read."""
        widths, reasons = Counter[int](), []
        for name in islice(self._places, 4 * SAMPLE):
            try:
                widths[self.read(name).features.shape[-1]] += 1
            except BadData as error:
                reasons.append(error.message)
            if widths.total() == SAMPLE:
                break
        if not widths:
            raise BadData(f"{self.path} holds no regions that can be read, for example: {reasons[0]}", "make it again")
        return widths.most_common(1)[0][0]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def _module(self) -> ModuleType:
        return catalog.load("region_format", self.format)

    @cached_property
    def _places(self) -> dict[str, Any]:
        return _places(self.path, self.format, self.fingerprint)

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {plain_name(name): name for name in reversed(self._places)}


def open_regions(path: Path) -> RegionSource:
    """The regions at ``path``, a file or a folder. Quick: it reads names, sizes and the first line of a file.

    Raises MissingData where there is nothing, BadData where it is in no known format.
    """
    path = path.expanduser().absolute()
    if not path.exists():
        raise MissingData(f"there are no regions at {path}", "give the file or folder after bottom-up@")
    try:
        for name, module in _formats():
            if module.matches(path):
                digest, num_bytes = _digest(path, module.files(path))
                return RegionSource(path, name, digest, num_bytes)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    known = ", ".join(catalog.names("region_format"))
    raise BadData(f"{path} does not hold regions in a format that is known", f"known: {known}; see docs/features.md")


def plain_name(name: str) -> str:
    """A name without folder, ending, leading zeros and COCO's prefix: ``COCO_val2014_000000000042.jpg`` is ``42``."""
    last = PurePosixPath(name).name
    stem = last[: -len(suffix)] if (suffix := PurePosixPath(last).suffix.lower()) in SUFFIXES and suffix else last
    tail = stem.rpartition("_")[2] if stem.startswith("COCO_") else stem
    return tail.lstrip("0") or "0" if tail.isdigit() else stem


def _formats() -> Iterator[tuple[str, ModuleType]]:
    modules = [(name, catalog.load("region_format", name)) for name in catalog.names("region_format")]
    return iter(sorted(modules, key=lambda pair: pair[1].PRIORITY))


def _digest(path: Path, files: Iterable[Path]) -> tuple[str, int]:
    """sha256 over names, sizes and times of change, and the bytes in all."""
    digest, num_bytes = hashlib.sha256(), 0
    start = path if path.is_dir() else path.parent
    for file in sorted(files):
        stat = file.stat()
        digest.update(
            f"\0{os.path.relpath(file, start)}\0{stat.st_size}\0{stat.st_mtime_ns}".encode(errors="surrogateescape")
        )
        num_bytes += stat.st_size
    return digest.hexdigest(), num_bytes


@functools.lru_cache(maxsize=2)
def _places(path: Path, format: str, fingerprint: str) -> dict[str, Any]:
    # kept, so that the splits of a dataset search a large file once; the fingerprint is part of the key
    try:
        found: dict[str, Any] = catalog.load("region_format", format).places(path)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    if not found:
        raise BadData(f"{path} holds no regions", "give the file or folder after bottom-up@")
    return found
