"""Records of the results of a demo: trainings, searches, captions with attention maps. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.result_json import to_json

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.evaluation.caption_scores import CaptionResult
    from xmodal_cli.evaluation.scoring import RetrievalResult
    from xmodal_cli.retrieval.report import IndexReport
    from xmodal_cli.retrieval.search_result import Hit


@dataclass(frozen=True)
class SearchExample:
    """A sentence and the photos found for it, best first; ``right`` is the one it was written about, if known."""

    query: str
    hits: Sequence[Hit]
    right: Path | None = None

    @property
    def rank(self) -> int | None:
        """The rank of the correct photo, if it was found; photos are compared by file name."""
        names = [Path(hit.path).name for hit in self.hits]
        return names.index(self.right.name) + 1 if self.right is not None and self.right.name in names else None

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        right = {} if self.right is None else {"right": str(self.right)}
        return {"query": self.query, **right, "hits": to_json(self.hits)}


@dataclass(frozen=True)
class Captioned:
    """A photo and its caption; ``maps`` (words, side, side) in [0, 1] are the attention maps of ``words``, if known.

    ``true`` is whether every detail of the caption is correct, if that is known.
    """

    photo: Path
    text: str
    words: Sequence[str] = ()
    maps: np.ndarray | None = None
    true: bool | None = None

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {"path": str(self.photo), "text": self.text} | ({} if self.true is None else {"true": self.true})


@dataclass(frozen=True)
class Truth:
    """How many captions of the test images are correct, and those that are not."""

    num_true: int
    num_captions: int
    false: Sequence[str] = ()

    @property
    def percent(self) -> float:
        """Of all captions."""
        return 100 * self.num_true / self.num_captions


@dataclass(frozen=True)
class MatcherPart:
    """The matcher: its run, its test metrics, sample searches in the test images."""

    run: Path
    test: RetrievalResult
    index: IndexReport
    searches: Sequence[SearchExample]


@dataclass(frozen=True)
class CaptionerPart:
    """The captioner: its run, its test metrics, sample captions. ``truth`` is None if the data was not generated."""

    run: Path
    test: CaptionResult
    truth: Truth | None
    captions: Sequence[Captioned]

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        shown: dict[str, Any] = {
            "run": str(self.run),
            "eval": to_json(self.test),
            "captions": [c.facts() for c in self.captions],
        }
        if self.truth is not None:
            counts = {"true": self.truth.num_true, "captions": self.truth.num_captions}
            shown["truth"] = {**counts, "percent": self.truth.percent, "false": list(self.truth.false)}
        return shown


@dataclass(frozen=True)
class OwnPhotos:
    """The user's photos: how many there are, how many were indexed, and the results of the default models."""

    folder: Path
    num_found: int
    index: IndexReport
    captioner: str
    searches: Sequence[SearchExample]
    captions: Sequence[Captioned]
    problems: Sequence[str] = field(default=())

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "folder": str(self.folder),
            "found": self.num_found,
            "index": to_json(self.index),
            "captioner": self.captioner,
            "searches": [search.facts() for search in self.searches],
            "captions": [caption.facts() for caption in self.captions],
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class DemoResult:
    """The results of a demo. ``seconds`` is the duration of each step, ``next_commands`` are suggested commands."""

    matcher: MatcherPart
    captioner: CaptionerPart
    photos: OwnPhotos | None
    seconds: Mapping[str, float]
    next_commands: Sequence[str]
    contact_sheet: Path
    page: Path

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "run": str(self.matcher.run),
            "index": self.matcher.index.folder,
            "picture": str(self.contact_sheet),
            "page": str(self.page),
            "eval": to_json(self.matcher.test),
            "searches": [search.facts() for search in self.matcher.searches],
            "captioner": self.captioner.facts(),
            "photos": None if self.photos is None else self.photos.facts(),
            "seconds": {step: round(seconds, 1) for step, seconds in self.seconds.items()},
            "next": list(self.next_commands),
        }
