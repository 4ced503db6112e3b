"""Opens region features precomputed by an external detector; the format is detected from the path.

Regions are looked up by image id or file name; only those of one image are in memory at a time.
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
from xmodal_cli.file_identity import is_absent, reason_not_regular
from xmodal_cli.paths import expand_home

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".npy", ".npz")
NUM_SAMPLED = 8  # images read to determine the width


@dataclass(frozen=True)
class RegionSource:
    """The regions of a set of images, in one file or folder.

    ``fingerprint`` is a sha256 of its files' names, sizes and modification times.
    """

    path: Path
    format: str
    fingerprint: str
    num_bytes: int

    def find(self, names: Sequence[str]) -> str | None:
        """The name of an image in this source, given its possible names, preferred first; None if it is missing.

        Exact matches come before matches of ``plain_name``.
        """
        for name in names:
            if name in self._locations:
                return name
        return next((self._by_plain_name[plain_name(n)] for n in names if plain_name(n) in self._by_plain_name), None)

    def read(self, name: str) -> Regions:
        """The regions of the image ``name``, from ``find``. Raises BadData with file, line and reason."""
        try:
            regions: Regions = self._module.read(self._locations[name])
            return regions
        except OSError as error:
            raise BadData(f"{self.path} cannot be read: {error.strerror}", "check that it still exists") from error

    def width(self) -> int:
        """Features per region: the most common width in a few images. Raises BadData if none can be read."""
        widths, reasons = Counter[int](), []
        for name in islice(self._locations, 4 * NUM_SAMPLED):
            try:
                widths[self.read(name).features.shape[-1]] += 1
            except BadData as error:
                reasons.append(error.message)
            if widths.total() == NUM_SAMPLED:
                break
        if not widths:
            raise BadData(f"{self.path} has no readable regions, for example: {reasons[0]}", "recreate the file")
        return widths.most_common(1)[0][0]

    def __len__(self) -> int:
        return len(self._locations)

    @property
    def _module(self) -> ModuleType:
        return catalog.load("region_format", self.format)

    @cached_property
    def _locations(self) -> dict[str, Any]:
        return _read_locations(self.path, self.format, self.fingerprint)

    @cached_property
    def _by_plain_name(self) -> dict[str, str]:
        return {plain_name(name): name for name in reversed(self._locations)}


def open_regions(path: Path) -> RegionSource:
    """The regions at ``path``, a file or a folder. Reads only names, sizes and the first line of files.

    Raises MissingData if ``path`` does not exist, BadData if its format is unknown.
    """
    path = expand_home(path).absolute()
    if is_absent(path):
        raise MissingData(f"there are no regions at {path}", "give the file or folder after bottom-up@")
    if not path.is_dir() and (problem := reason_not_regular(path)):
        raise BadData(f"{path} {problem}", "give the file or folder after bottom-up@")
    try:
        for name, module in _formats_by_priority():
            if module.matches(path):
                digest, num_bytes = _digest(path, module.files(path))
                return RegionSource(path, name, digest, num_bytes)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    known = ", ".join(catalog.names("region_format"))
    raise BadData(f"{path} has no regions in a known format", f"known: {known}; see docs/features.md")


def plain_name(name: str) -> str:
    """A name without folder, suffix, leading zeros and COCO's prefix: ``42`` for ``COCO_val2014_000000000042.jpg``."""
    last = PurePosixPath(name).name
    stem = last[: -len(suffix)] if (suffix := PurePosixPath(last).suffix.lower()) in SUFFIXES and suffix else last
    tail = stem.rpartition("_")[2] if stem.startswith("COCO_") else stem
    return tail.lstrip("0") or "0" if tail.isdigit() else stem


def _formats_by_priority() -> Iterator[tuple[str, ModuleType]]:
    modules = [(name, catalog.load("region_format", name)) for name in catalog.names("region_format")]
    return iter(sorted(modules, key=lambda pair: pair[1].PRIORITY))


def _digest(path: Path, files: Iterable[Path]) -> tuple[str, int]:
    """sha256 of names, sizes and modification times, and the total size in bytes."""
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
def _read_locations(path: Path, format: str, fingerprint: str) -> dict[str, Any]:
    # cached, so that a large file is searched once for all splits; the fingerprint is part of the cache key
    try:
        locations: dict[str, Any] = catalog.load("region_format", format).locations(path)
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}", "check its permissions") from error
    if not locations:
        raise BadData(f"{path} has no regions", "give the file or folder after bottom-up@")
    return locations
