"""A report on the retrieval results of a model: random queries, the queries with the worst ranks, and rank-1 queries.

Writes ``index.html``, which contains its thumbnails and needs no other file, and ``grid.png`` with the random queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xmodal_cli.evaluation.extras import EvaluatedModel, captions_of
from xmodal_cli.evaluation.rank_file import TopResults, image_to_text, text_to_image
from xmodal_cli.output_files import check_output_file
from xmodal_cli.paths import write_bytes
from xmodal_cli.reports.contact_sheet import Row, draw_contact_sheet, is_contact_sheet
from xmodal_cli.reports.inline_images import InlineImage, inline_image
from xmodal_cli.reports.pages import REPORT, is_page
from xmodal_cli.reports.retrieval_page import Case, RetrievedItem, Section, draw_retrieval_page
from xmodal_cli.retrieval.ranks import exact_scores
from xmodal_cli.types import Example

CASES = 8  # queries per section
TOP_IMAGES, TOP_TEXTS, GRID_COLUMNS = 10, 5, 5
GRID = "grid.png"
THUMBNAIL = 160  # pixels of the longer side


@dataclass(frozen=True)
class _RankedSplit:
    """The images and captions of the split by row; ``owner`` (captions,) is the row of each caption's image."""

    examples: Sequence[Example]
    captions: list[str]
    owner: np.ndarray
    thumbnails: dict[int, InlineImage] = field(default_factory=dict)

    def thumbnail(self, image: int) -> InlineImage:
        """The thumbnail of a row, read once."""
        if image not in self.thumbnails:
            example = self.examples[image]
            self.thumbnails[image] = inline_image(example.path, example.image_id, THUMBNAIL)
        return self.thumbnails[image]


def check_report(folder: Path) -> None:
    """Raise StorageError if the files cannot be written to ``folder``, or would replace files of another kind."""
    check_output_file(folder / REPORT, "--report", is_page)
    check_output_file(folder / GRID, "--report", is_contact_sheet)


def write_report(judged: EvaluatedModel, folder: Path, seed: int = 0) -> list[Path]:
    """Write the page and the grid into ``folder``; other files there are not changed. Raises StorageError."""
    captions = captions_of(judged.model)
    examples = judged.model.dataset.examples if judged.model.dataset else ()
    split = _RankedSplit(examples, captions, judged.model.vectors.image_of_caption)
    random = np.random.default_rng(seed)
    by_text = _joined([text_to_image(fold, TOP_IMAGES) for fold in judged.folds])
    by_image = _joined([image_to_text(fold, TOP_TEXTS) for fold in judged.folds])
    sample = _drawn(by_text, split.owner, random)
    grid = draw_contact_sheet([_grid_row(by_text, query, split) for query in sample], folder / GRID)
    sections = [
        Section("Text to image: random captions", f"A random sample of captions with the top {TOP_IMAGES} images.",
                [_text_case(by_text, q, split) for q in sample]),
        Section("Text to image: worst ranks", "The captions whose image has the worst rank, at most one per image, "
                f"with the top {TOP_IMAGES} images and the correct image last.",
                [_text_case(by_text, q, split) for q in _worst(by_text, split.owner)]),
        Section("Image to text: worst ranks", "The images whose captions have the worst rank, with the top "
                f"{TOP_TEXTS} captions and the best of the correct captions last.",
                [_image_case(by_image, q, split, judged) for q in _worst(by_image, None)]),
        Section("Text to image: rank 1", "A random sample of the captions whose image has rank 1.",
                [_text_case(by_text, q, split) for q in _drawn(by_text, split.owner, random, rank=1)]),
        Section("Image to text: rank 1", "A random sample of the images with a correct caption at rank 1.",
                [_image_case(by_image, q, split, judged) for q in _drawn(by_image, None, random, rank=1)]),
    ]  # fmt: skip
    index = folder / REPORT
    write_bytes(index, draw_retrieval_page(judged.result, sections))
    return [index, grid]


def _joined(parts: list[TopResults]) -> TopResults:
    return TopResults(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("queries", "ranks", "best")))


def _drawn(
    ranked: TopResults, owner: np.ndarray | None, random: np.random.Generator, rank: int | None = None
) -> list[int]:
    """Positions of randomly sampled queries, if ``rank`` is given only those of that rank, at most one per image."""
    among = np.arange(len(ranked.ranks)) if rank is None else np.flatnonzero(ranked.ranks == rank)
    return _of_different_images(random.permutation(among), ranked, owner)


def _worst(ranked: TopResults, owner: np.ndarray | None) -> list[int]:
    """Positions of the queries with the worst rank, without those of rank 1, at most one per image."""
    falling = np.argsort(-ranked.ranks, kind="stable")
    return _of_different_images(falling[ranked.ranks[falling] > 1], ranked, owner)


def _of_different_images(positions: np.ndarray, ranked: TopResults, owner: np.ndarray | None) -> list[int]:
    kept: dict[int, int] = {}
    for position in positions.tolist():
        query = int(ranked.queries[position])
        kept.setdefault(query if owner is None else int(owner[query]), position)
        if len(kept) == CASES:
            break
    return list(kept.values())


def _text_case(ranked: TopResults, position: int, split: _RankedSplit) -> Case:
    query, rank = int(ranked.queries[position]), int(ranked.ranks[position])
    right = int(split.owner[query])
    found = list(enumerate(ranked.best[position].tolist(), 1))
    found += [] if right in dict(found).values() else [(rank, right)]
    items = [RetrievedItem(item_rank, image == right, split.thumbnail(image)) for item_rank, image in found]
    return Case(split.captions[query], None, rank, items)


def _image_case(ranked: TopResults, position: int, split: _RankedSplit, judged: EvaluatedModel) -> Case:
    image, rank = int(ranked.queries[position]), int(ranked.ranks[position])
    found = list(enumerate(ranked.best[position].tolist(), 1))
    if rank > len(found):
        found.append((rank, _best_own(image, judged)))
    items = [
        RetrievedItem(item_rank, int(split.owner[text]) == image, None, split.captions[text])
        for item_rank, text in found
    ]
    return Case("", split.thumbnail(image), rank, items)


def _best_own(image: int, judged: EvaluatedModel) -> int:
    """The caption of the image that scores highest."""
    vectors = judged.model.vectors
    own = np.flatnonzero(vectors.image_of_caption == image)
    scores = exact_scores(vectors.images, vectors.texts, np.full(len(own), image), own, vectors.similarity)
    return int(own[scores.argmax()])


def _grid_row(ranked: TopResults, position: int, split: _RankedSplit) -> Row:
    query = int(ranked.queries[position])
    photos = [_photo(split.examples[image]) for image in ranked.best[position][:GRID_COLUMNS]]
    right = frozenset((_photo(split.examples[int(split.owner[query])]),))
    return Row(f"rank {ranked.ranks[position]}: {split.captions[query]}", photos, right, wrong_framed=True)


def _photo(example: Example) -> Path | str:
    return example.path if example.path is not None else example.image_id
