"""The contents of an evaluation report, ``templates/retrieval.html.jinja``: metrics, and queries with their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmodal_cli.evaluation.scoring import RetrievalResult
from xmodal_cli.reports.inline_images import InlineImage
from xmodal_cli.reports.pages import render

SIDES = {"image_to_text": "image to text", "text_to_image": "text to image"}
LABELS = {"median_rank": "MedR", "mean_rank": "MeanR"}


@dataclass(frozen=True)
class RetrievedItem:
    """An image or a caption at a rank; ``image`` is None if it is a caption."""

    rank: int
    correct: bool
    image: InlineImage | None
    caption: str = ""


@dataclass(frozen=True)
class Case:
    """A query (``caption`` if ``image`` is None), the best rank of a correct item, and the top items."""

    caption: str
    image: InlineImage | None
    rank: int
    retrieved: Sequence[RetrievedItem]


@dataclass(frozen=True)
class Section:
    """Cases under a heading."""

    title: str
    note: str
    cases: Sequence[Case]


@dataclass(frozen=True)
class RetrievalPage:
    """Everything that the template shows; ``metrics`` are a header row and a row per direction."""

    title: str
    num_images: int
    num_captions: int
    protocol: str
    metrics: Sequence[Sequence[str]]
    rsum: str
    sections: Sequence[Section]


def draw_retrieval_page(result: RetrievalResult, sections: Sequence[Section]) -> bytes:
    """The page in UTF-8: the metrics of ``result``, then the sections."""
    page = RetrievalPage(
        title=f"{result.model} on {result.data} {result.split}",
        num_images=result.images,
        num_captions=result.captions,
        protocol=result.protocol,
        metrics=_metrics(result),
        rsum=f"{result.rsum:.1f}",
        sections=[section for section in sections if section.cases],
    )
    return render("retrieval", {"page": page}).encode("utf-8")


def _metrics(result: RetrievalResult) -> list[list[str]]:
    names = list(result.image_to_text)
    rows = [[label, *(_formatted(name, result.sides[side][name]) for name in names)] for side, label in SIDES.items()]
    return [["", *(LABELS.get(name, name) for name in names)], *rows]


def _formatted(name: str, value: float) -> str:
    return f"{value:.3f}" if name.startswith("NDCG") else f"{value:.1f}"
