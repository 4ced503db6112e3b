"""A dataset in memory, and the pages of its images: with captions, sizes, and files that are missing or unreadable."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmodal_cli.data import left_out, tar
from xmodal_cli.data.images import ImageReader
from xmodal_cli.data.published_splits import find_published_splits
from xmodal_cli.data.summary import DatasetSummary, summarize
from xmodal_cli.errors import MissingData, UnknownName
from xmodal_cli.file_identity import size_and_mtime
from xmodal_cli.result_json import INLINE
from xmodal_cli.serve.caption_words import CaptionWords
from xmodal_cli.serve.dataset_request import BrowseRequest, Shown
from xmodal_cli.serve.file_check import FileCheck, check_file
from xmodal_cli.splits import canonical_split
from xmodal_cli.types import Example, FeatureSource, ImageTextDataset, Unreadable

PAGE = 48  # images
VERSION = 12  # characters of ``file_version`` in addresses
_MAX_SELECTIONS = 8


@dataclass(frozen=True)
class BrowsedCaption:
    """A caption. ``remark`` is ``empty``, ``repeated``, ``repeated, kept`` (in published splits), or empty."""

    text: str
    remark: str


@dataclass(frozen=True)
class BrowsedImage:
    """An image of a dataset. ``position`` is that in the whole dataset, ``v`` the version of its file, empty if none.

    ``width`` and ``height`` are 0 unless the header of the file can be read; ``problem`` is the reason.
    """

    position: int
    image_id: str
    split: str
    path: str | None
    v: str
    width: int
    height: int
    problem: dict[str, Any] | None
    captions: tuple[BrowsedCaption, ...]


@dataclass(frozen=True)
class DatasetFacts:
    """What ``xmodal data info`` prints first, and the number of captions per split.

    ``precomputed``: features instead of images, and ``features_from`` their backbone if it was declared.
    """

    summary: DatasetSummary = field(metadata=INLINE)
    split_captions: dict[str, int]
    precomputed: bool
    features_from: FeatureSource | None

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self.summary.name


@dataclass(frozen=True)
class CheckedFiles:
    """The state of a check of image files: ``done`` of ``files``, and the number of problems per category."""

    files: int
    done: int
    counts: dict[str, int]


@dataclass(frozen=True)
class BrowsedPage:
    """A page of the ``found`` images of a request; ``split`` is None for all. ``checked`` is for ``show=missing``."""

    facts: DatasetFacts = field(metadata=INLINE)
    split: str | None
    q: str
    show: str
    found: int
    page: int
    pages: int
    checked: CheckedFiles | None
    entries: tuple[BrowsedImage, ...]


class BrowsedDataset:
    """All methods are for one thread."""

    def __init__(self, dataset: ImageTextDataset) -> None:
        self.dataset = dataset
        captions: Counter[str] = Counter()
        for example in dataset.examples:
            captions[example.split] += len(example.captions)
        self.facts = DatasetFacts(summarize(dataset), dict(captions), dataset.has_features, dataset.features_from)
        self._published = find_published_splits(dataset.examples)
        self._selections: dict[tuple[str, CaptionWords, Shown], Sequence[int]] = {}
        self._checks: dict[str, FileCheck] = {}

    def browse(self, request: BrowseRequest, check_seconds: float) -> BrowsedPage:
        """The images of a request. With ``Shown.MISSING``, files are checked for about ``check_seconds``: repeat it.

        Raises UnknownName for a split, MissingData for a page that does not exist, ConfigError for invalid settings.
        """
        split, checked, reader = self._split(request.split), None, ImageReader()
        if request.shown is Shown.MISSING:
            check = self._check(split)
            check.advance(check_seconds, reader)
            checked = CheckedFiles(check.num_files, check.num_checked, left_out.count(list(check.problems.values())))
            positions = self._with_words(sorted(check.problems), request.words)
        else:
            positions = self._select(split, request.words, request.shown)
        pages = max(-(-len(positions) // PAGE), 1)
        if request.page > pages:
            raise MissingData(f"there is no page {request.page:,}", f"the last one is page {pages:,}")
        shown = positions[(request.page - 1) * PAGE : request.page * PAGE]
        entries = tuple(self._image(position, reader) for position in shown)
        query, number = request.words.query, request.page
        return BrowsedPage(
            self.facts, split or None, query, request.shown.value, len(positions), number, pages, checked, entries
        )

    def image(self, position: int) -> BrowsedImage:
        """One image. Raises MissingData, ConfigError for invalid settings."""
        self._check_position(position)
        return self._image(position, ImageReader())

    def file(self, position: int) -> tuple[Path, str]:
        """The file of an image, and its version. Raises MissingData."""
        self._check_position(position)
        path = self.dataset.examples[position].path
        if path is None:
            raise MissingData(f"{self.dataset.name} has features and no image files", "only its captions can be shown")
        if not (version := file_version(path)):
            raise MissingData(f"{path} does not exist", "restore the file, or the dataset")
        return path, version

    def _check_position(self, position: int) -> None:
        if not 0 <= position < len(self.dataset.examples):
            raise MissingData(f"{self.dataset.name} has no image {position}", "see the images of its splits")

    def _split(self, name: str) -> str:
        split, splits = canonical_split(name), self.facts.summary.splits
        if split and split not in splits:
            raise UnknownName.of(f"split in {self.facts.name}", name[:40], splits)
        return split

    def _positions(self, split: str) -> Sequence[int]:
        examples = self.dataset.examples
        return [p for p, e in enumerate(examples) if e.split == split] if split else range(len(examples))

    def _with_words(self, positions: Sequence[int], words: CaptionWords) -> Sequence[int]:
        examples = self.dataset.examples
        return [p for p in positions if words.matches(examples[p].captions)] if words.query else positions

    def _select(self, split: str, words: CaptionWords, shown: Shown) -> Sequence[int]:
        key = (split, words, shown)
        if (found := self._selections.pop(key, None)) is None:
            found = self._with_words(self._positions(split), words)
            if shown is Shown.EMPTY_OR_REPEATED:
                found = [p for p in found if _has_remarks(self.dataset.examples[p])]
        self._selections[key] = found  # the last used one is the last
        if len(self._selections) > _MAX_SELECTIONS:
            del self._selections[next(iter(self._selections))]
        return found

    def _check(self, split: str) -> FileCheck:
        if split not in self._checks:
            self._checks[split] = FileCheck(self.dataset.examples, self._positions(split))
        return self._checks[split]

    def _image(self, position: int, reader: ImageReader) -> BrowsedImage:
        example = self.dataset.examples[position]
        checked = check_file(example, reader)
        return BrowsedImage(
            position,
            example.image_id,
            example.split,
            None if example.path is None else str(example.path),
            "" if example.path is None else file_version(example.path)[:VERSION],
            checked.width,
            checked.height,
            _to_json(checked.problem),
            browsed_captions(example, example.split in self._published),
        )


def browsed_captions(example: Example, keeps_repeated: bool = False) -> tuple[BrowsedCaption, ...]:
    """The captions of an image; what ``data.caption_cleaning`` leaves out has a remark."""
    seen, found = set[str](), list[BrowsedCaption]()
    for caption in example.captions:
        key = " ".join(caption.split())
        remark = "" if key and key not in seen else "repeated" if key else "empty"
        found.append(BrowsedCaption(caption, remark + (", kept" if remark == "repeated" and keeps_repeated else "")))
        seen.add(key)
    return tuple(found)


def file_version(path: Path) -> str:
    """A digest of path, size and modification time, in hex; of the archive for a file in one. Empty if none exists."""
    member = tar.split_member(path) if not path.is_file() else None
    if (state := size_and_mtime(path if member is None else member[0])) is None:
        return ""
    return hashlib.sha256("\0".join((str(path), *map(str, state))).encode(errors="surrogateescape")).hexdigest()[:32]


def _has_remarks(example: Example) -> bool:
    return not example.captions or any(caption.remark for caption in browsed_captions(example))


def _to_json(problem: Unreadable | None) -> dict[str, Any] | None:
    return None if problem is None else left_out.to_entry(problem)
