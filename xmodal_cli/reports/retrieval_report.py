"""A page with pictures of what a model finds: a sample of queries, its worst failures, its best answers.

Writes ``index.html``, which holds its thumbnails and needs nothing else, and ``grid.png`` with the sample's queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.evaluation.extras import EvaluatedModel, captions_of
from xmodal_cli.evaluation.rank_file import Answers, image_to_text, text_to_image
from xmodal_cli.paths import write_bytes
from xmodal_cli.reports.contact_sheet import Row, draw_contact_sheet
from xmodal_cli.reports.retrieval_page import Answer, Case, Section, page
from xmodal_cli.retrieval.ranks import exact_scores
from xmodal_cli.types import Example

CASES = 8  # queries per section
TOP_IMAGES, TOP_TEXTS, GRID_COLUMNS = 10, 5, 5


@dataclass(frozen=True)
class _RankedSplit:
    """The split in rows: what the answers' numbers mean."""

    examples: Sequence[Example]
    captions: list[str]
    owner: np.ndarray


def write_report(judged: EvaluatedModel, folder: Path, seed: int = 0) -> list[Path]:
    """Write the page and the grid into ``folder``; other files there are left alone. Raises StorageError."""
    captions = captions_of(judged.subject)
    examples = judged.subject.part.examples if judged.subject.part else ()
    split = _RankedSplit(examples, captions, judged.subject.vectors.image_of_caption)
    random = np.random.default_rng(seed)
    by_text = _joined([text_to_image(fold, TOP_IMAGES) for fold in judged.folds])
    by_image = _joined([image_to_text(fold, TOP_TEXTS) for fold in judged.folds])
    sample = _drawn(by_text, split.owner, random)
    grid = draw_contact_sheet([_grid_row(by_text, query, split) for query in sample], folder / "grid.png")
    sections = [
        Section("A sample of captions", "Drawn at random; the pictures found for each, best first.",
                [_text_case(by_text, q, split) for q in sample]),
        Section("Captions whose picture ranks worst", "One of a picture; the pictures that beat it, and the right one.",
                [_text_case(by_text, q, split) for q in _worst(by_text, split.owner)]),
        Section("Pictures whose captions rank worst", "The captions that beat theirs, and the best of their own.",
                [_image_case(by_image, q, split, judged) for q in _worst(by_image, None)]),
        Section("Captions that find their picture first", "Drawn at random among those of rank 1.",
                [_text_case(by_text, q, split) for q in _drawn(by_text, split.owner, random, rank=1)]),
        Section("Pictures that find a caption of theirs first", "Drawn at random among those of rank 1.",
                [_image_case(by_image, q, split, judged) for q in _drawn(by_image, None, random, rank=1)]),
    ]  # fmt: skip
    index = folder / "index.html"
    write_bytes(index, page(judged.result, sections).encode("utf-8", "backslashreplace"))
    return [index, grid]


def _joined(parts: list[Answers]) -> Answers:
    return Answers(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("queries", "ranks", "best")))


def _drawn(
    answers: Answers, owner: np.ndarray | None, random: np.random.Generator, rank: int | None = None
) -> list[int]:
    """Positions of some queries drawn at random, of that rank only where one is given, no two of one picture."""
    among = np.arange(len(answers.ranks)) if rank is None else np.flatnonzero(answers.ranks == rank)
    return _of_different_pictures(random.permutation(among), answers, owner)


def _worst(answers: Answers, owner: np.ndarray | None) -> list[int]:
    """Positions of the queries whose right answer ranks worst; what was found first is no failure."""
    falling = np.argsort(-answers.ranks, kind="stable")
    return _of_different_pictures(falling[answers.ranks[falling] > 1], answers, owner)


def _of_different_pictures(positions: np.ndarray, answers: Answers, owner: np.ndarray | None) -> list[int]:
    kept: dict[int, int] = {}
    for position in positions.tolist():
        query = int(answers.queries[position])
        kept.setdefault(query if owner is None else int(owner[query]), position)
        if len(kept) == CASES:
            break
    return list(kept.values())


def _text_case(answers: Answers, position: int, split: _RankedSplit) -> Case:
    query, rank = int(answers.queries[position]), int(answers.ranks[position])
    right = int(split.owner[query])
    found = list(enumerate(answers.best[position].tolist(), 1))
    found += [] if right in dict(found).values() else [(rank, right)]
    shown = [Answer(place, image == right, split.examples[image]) for place, image in found]
    return Case(split.captions[query], None, rank, shown)


def _image_case(answers: Answers, position: int, split: _RankedSplit, judged: EvaluatedModel) -> Case:
    image, rank = int(answers.queries[position]), int(answers.ranks[position])
    found = list(enumerate(answers.best[position].tolist(), 1))
    if rank > len(found):
        found.append((rank, _best_own(image, judged)))
    shown = [Answer(place, int(split.owner[text]) == image, None, split.captions[text]) for place, text in found]
    return Case(None, split.examples[image], rank, shown)


def _best_own(image: int, judged: EvaluatedModel) -> int:
    """The caption of the image that scores highest."""
    vectors = judged.subject.vectors
    own = np.flatnonzero(vectors.image_of_caption == image)
    scores = exact_scores(vectors.images, vectors.texts, np.full(len(own), image), own, vectors.similarity)
    return int(own[scores.argmax()])


def _grid_row(answers: Answers, position: int, split: _RankedSplit) -> Row:
    query = int(answers.queries[position])
    photos = [_photo(split.examples[image]) for image in answers.best[position][:GRID_COLUMNS]]
    right = frozenset((_photo(split.examples[int(split.owner[query])]),))
    return Row(f"rank {answers.ranks[position]}: {split.captions[query]}", photos, right, wrong_framed=True)


def _photo(example: Example) -> Path | str:
    return example.path if example.path is not None else example.image_id
