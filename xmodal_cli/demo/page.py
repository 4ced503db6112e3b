"""The page of the demo, ``reports/templates/demo.html.jinja``: its images, charts and metrics are prepared here.

The page is one HTML file with its images, charts and style; it never accesses the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.data.images import open_image
from xmodal_cli.demo.results import Captioned, CaptionerPart, DemoResult, MatcherPart, OwnPhotos, SearchExample, Truth
from xmodal_cli.errors import BadData
from xmodal_cli.reports.attention_page import draw_tiles
from xmodal_cli.reports.charts import Chart, Curve, plot
from xmodal_cli.reports.inline_images import InlineImage, inline_image, jpeg_data_uri
from xmodal_cli.reports.pages import render
from xmodal_cli.reports.retrieval_page import SIDES
from xmodal_cli.training.log import read_log
from xmodal_cli.types import Example

THUMBNAIL, LARGE, TILE = 200, 400, 120  # pixels of an image's longer side
RECALLS = ("R@1", "R@5", "R@10")
CAPTION_METRICS = {"bleu_4": "BLEU-4", "cider": "CIDEr"}
NUM_SAMPLES, NUM_LISTED = 4, 5

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class SampleView:
    """An image of the dataset and one of its captions."""

    image: InlineImage
    caption: str


@dataclass(frozen=True)
class HitView:
    """A search result; ``correct`` if it is the image that the query describes."""

    image: InlineImage
    score_text: str
    correct: bool


@dataclass(frozen=True)
class SearchView:
    """A query and its hits; ``match_rank`` is None if no hit is correct, or if the correct image is not known."""

    query: str
    has_match: bool
    match_rank: int | None
    hits: Sequence[HitView]


@dataclass(frozen=True)
class CaptionView:
    """A captioned image, with one attention map per word if there are any; ``correct`` is None if it is not known."""

    image: InlineImage
    caption: str
    correct: bool | None
    words: Sequence[InlineImage]


@dataclass(frozen=True)
class MatcherView:
    """The matcher's test metrics (a header row, then rows), its training curves and sample searches."""

    num_images: int
    num_captions: int
    recalls: Rows  # direction, R@1
    metrics: Rows
    charts: Sequence[Chart]
    searches: Sequence[SearchView]


@dataclass(frozen=True)
class CaptionerView:
    """The captioner's test metrics (a header row, then rows), its training curves and sample captions."""

    metrics: Rows
    charts: Sequence[Chart]
    correctness: Truth | None
    incorrect: Sequence[str]
    captions: Sequence[CaptionView]


@dataclass(frozen=True)
class OwnPhotosView:
    """The user's photos: captions, searches, and the first of those that could not be read."""

    folder: str
    num_indexed: int
    num_found: int
    matcher: str
    captioner: str
    captions: Sequence[CaptionView]
    searches: Sequence[SearchView]
    problems: Sequence[str]
    num_problems: int


@dataclass(frozen=True)
class DemoPage:
    """Everything that the template shows."""

    samples: Sequence[SampleView]
    matcher: MatcherView
    captioner: CaptionerView
    own_photos: OwnPhotosView | None
    seconds: Rows
    total_seconds: float
    next_commands: Sequence[str]


def draw_page(result: DemoResult, samples: Sequence[Example]) -> bytes:
    """The page in UTF-8; ``samples`` are examples of the dataset, the first few of which are shown."""
    page = DemoPage(
        samples=[
            SampleView(_thumbnail(example.path), example.captions[0])
            for example in samples[:NUM_SAMPLES]
            if example.path is not None and example.captions
        ],
        matcher=_matcher(result.matcher),
        captioner=_captioner(result.captioner),
        own_photos=None if result.photos is None else _own_photos(result.photos),
        seconds=[(step, f"{seconds:.1f}") for step, seconds in result.seconds.items()],
        total_seconds=sum(result.seconds.values()),
        next_commands=result.next_commands,
    )
    return render("demo", {"page": page}).encode("utf-8")


# ---------------------------------------------------------------------------- sections


def _matcher(part: MatcherPart) -> MatcherView:
    log = read_log(part.run)
    evals = [r for r in log if r["event"] == "eval"]
    recalls = [
        Curve(label, [(r["epoch"], r[f"{side} R@1"]) for r in evals if f"{side} R@1" in r])
        for side, label in SIDES.items()
    ]
    rows = [[label, *(f"{part.test.sides[side][name]:.1f}" for name in RECALLS)] for side, label in SIDES.items()]
    return MatcherView(
        num_images=part.test.images,
        num_captions=part.test.captions,
        recalls=[(label, f"{part.test.sides[side]['R@1']:.0f}") for side, label in SIDES.items()],
        metrics=[["", *RECALLS], *rows],
        charts=_drawn(_loss(log), plot("val R@1, %", "epoch", recalls, top=100)),
        searches=[_search(search) for search in part.searches],
    )


def _captioner(part: CaptionerPart) -> CaptionerView:
    log = read_log(part.run)
    scores = [(r["epoch"], r["cider"]) for r in log if r["event"] == "eval" and r.get("cider") is not None]
    rows = [[label, f"{part.test.scores[name]:.2f}"] for name, label in CAPTION_METRICS.items()]
    return CaptionerView(
        metrics=[["metric", "value"], *rows],
        charts=_drawn(_loss(log), plot("val CIDEr", "epoch", [Curve("CIDEr", scores)])),
        correctness=part.truth,
        incorrect=[] if part.truth is None else part.truth.false[:NUM_LISTED],
        captions=[_captioned(caption) for caption in part.captions],
    )


def _own_photos(part: OwnPhotos) -> OwnPhotosView:
    return OwnPhotosView(
        folder=str(part.folder),
        num_indexed=part.index.items,
        num_found=part.num_found,
        matcher=part.index.model,
        captioner=part.captioner,
        captions=[_captioned(caption) for caption in part.captions],
        searches=[_search(search) for search in part.searches],
        problems=part.problems[:NUM_LISTED],
        num_problems=len(part.problems),
    )


def _loss(log: Iterable[Mapping[str, Any]]) -> Chart | None:
    points = [(r["step"], r["loss"]) for r in log if r["event"] == "step" and r.get("loss") is not None]
    return plot("training loss", "step", [Curve("loss", points)])


def _drawn(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


# ---------------------------------------------------------------------------- searches and captions


def _search(search: SearchExample) -> SearchView:
    hits = [HitView(_thumbnail(Path(hit.path)), hit.score_text, hit.rank == search.rank) for hit in search.hits]
    return SearchView(search.query, search.right is not None, search.rank, hits)


def _captioned(caption: Captioned) -> CaptionView:
    image = inline_image(caption.photo, caption.photo.name, LARGE)
    return CaptionView(image, caption.text, caption.true, _attention_maps(caption))


def _attention_maps(caption: Captioned) -> list[InlineImage]:
    if caption.maps is None:
        return []
    try:
        photo = open_image(caption.photo, LARGE)
    except BadData:  # deleted or changed after it was captioned
        return []
    tiles = zip(caption.words, draw_tiles(photo, caption.maps), strict=False)
    return [InlineImage(word, jpeg_data_uri(tile, TILE)) for word, tile in tiles]


def _thumbnail(photo: Path) -> InlineImage:
    return inline_image(photo, photo.name, THUMBNAIL)
