"""A report on generated captions: those with the lowest CIDEr, a random sample, and those with the highest.

Writes ``index.html``, which contains its thumbnails and needs no other file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.evaluation.caption_scores import CaptionResult, ScoredCaptions
from xmodal_cli.metrics.caption_columns import sorted_columns
from xmodal_cli.metrics.ptb_tokenizer import ptb_words
from xmodal_cli.output_files import check_output_file
from xmodal_cli.paths import write_bytes
from xmodal_cli.reports.inline_images import InlineImage, inline_image
from xmodal_cli.reports.pages import REPORT, is_page, render

LOWEST, SAMPLE, HIGHEST = 24, 12, 12  # images per section
THUMBNAIL = 240  # pixels of the longer side


@dataclass(frozen=True)
class CaptionCase:
    """An image with its caption, the CIDEr-D of the caption, and the references."""

    image: InlineImage
    caption: str
    score: float
    references: Sequence[str]


@dataclass(frozen=True)
class CaptionSection:
    """Cases under a heading."""

    title: str
    note: str
    cases: Sequence[CaptionCase]


@dataclass(frozen=True)
class CaptionPage:
    """Everything that the template shows; ``metrics`` are a header row and a row of values, as ``eval`` prints them."""

    title: str
    num_images: int
    metrics: Sequence[Sequence[str]]
    signature: str
    sections: Sequence[CaptionSection]


def check_caption_report(folder: Path) -> None:
    """Raise StorageError if the page cannot be written to ``folder``, or would replace a file of another kind."""
    check_output_file(folder / REPORT, "--report", is_page)


def write_caption_report(scored: ScoredCaptions, folder: Path, seed: int = 0) -> Path:
    """Write the page into ``folder``; other files there are not changed. Raises StorageError."""
    scores = cider_of_each(scored.captions, [example.captions for example in scored.examples])
    rising = np.argsort(scores, kind="stable")
    sample = np.random.default_rng(seed).permutation(len(scores))[:SAMPLE]
    sections = [
        ("Lowest CIDEr", "The captions that agree least with the references of their image.", rising[:LOWEST]),
        ("Random sample", "Images chosen at random, the same for every model.", sample),
        ("Highest CIDEr", "The captions that agree most with the references.", rising[::-1][:HIGHEST]),
    ]
    result = scored.result
    page = CaptionPage(
        title=f"{result.model} on {result.data} {result.split}",
        num_images=result.images,
        metrics=_metrics(result),
        signature=result.signature,
        sections=[CaptionSection(title, note, _cases(scored, scores, rows)) for title, note, rows in sections],
    )
    write_bytes(folder / REPORT, render("captions", {"page": page}).encode("utf-8"))
    return folder / REPORT


def cider_of_each(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(candidates,) float64: the CIDEr-D of each caption, whose document frequencies are those of all references."""
    words = [ptb_words(sentence) for sentence in candidates]
    reference_words = [[ptb_words(sentence) for sentence in sentences] for sentences in references]
    scores: np.ndarray = catalog.build("caption_metric", "cider", {})(words, reference_words).per_candidate["cider"]
    return scores


def _cases(scored: ScoredCaptions, scores: np.ndarray, rows: np.ndarray) -> list[CaptionCase]:
    cases = []
    for row in rows.tolist():
        example = scored.examples[row]
        image = inline_image(example.path, example.image_id, THUMBNAIL)
        cases.append(CaptionCase(image, scored.captions[row], float(scores[row]), example.captions))
    return cases


def _metrics(result: CaptionResult) -> list[list[str]]:
    cells = [
        (label, column.format(value))
        for column in sorted_columns()
        for name, label in column.labels.items()
        if (value := result.scores.get(name)) is not None
    ]
    return [["", *(label for label, _ in cells)], [result.model, *(text for _, text in cells)]]
