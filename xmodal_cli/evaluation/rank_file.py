"""Rank files: the rank and the top results of every query, as JSON Lines or CSV with one row per query."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.evaluation.extras import EvaluatedModel
from xmodal_cli.evaluation.scoring import Fold
from xmodal_cli.file_errors import parse_json
from xmodal_cli.file_identity import open_regular
from xmodal_cli.output_files import check_output_file
from xmodal_cli.paths import write_bytes
from xmodal_cli.result_json import to_json
from xmodal_cli.retrieval.top_k import Vectors, top_images, top_texts

TOP = 5


@dataclass(frozen=True)
class RankedQuery:
    """A row: a query, the best rank of a correct item, and its top results.

    ``caption`` is None, and ``top_captions`` has the results, if the query is an image. Without a dataset, images and
    captions are row indices.
    """

    model: str
    direction: str
    image_id: str | int
    caption: str | int | None
    rank: int
    top_image_ids: list[str | int]
    top_captions: list[str | int]


@dataclass(frozen=True)
class TopResults:
    """The top results of the queries of one direction; queries and results are row indices of the split.

    ``queries`` (queries,), ``ranks`` (queries,) 1-based, ``best`` (queries, k) best first.
    """

    queries: np.ndarray
    ranks: np.ndarray
    best: np.ndarray


def text_to_image(fold: Fold, k: int) -> TopResults:
    """The top ``k`` images for every caption of a fold."""
    best = top_images(_vectors(fold), k, lambda image, text: fold.vectors.image_of_caption[text] == image)
    return TopResults(fold.captions, fold.ranks.text_to_image, fold.images[best])


def image_to_text(fold: Fold, k: int) -> TopResults:
    """The top ``k`` captions for every captioned image of a fold."""
    image_of_caption = fold.vectors.image_of_caption
    queries = np.unique(image_of_caption)
    best = top_texts(_vectors(fold), k, lambda image, text: image_of_caption[text] == image)[queries]
    return TopResults(fold.images[queries], fold.ranks.image_to_text, fold.captions[best])


def check_rank_file(file: Path) -> None:
    """Raise StorageError if ``file`` cannot be written, or is another file. Nothing is written."""
    check_output_file(file, "--ranks", _is_rank_file)


def _is_rank_file(file: Path) -> bool:
    """Whether ``file`` has the columns of the rows that ``write_ranks`` writes."""
    columns = [column.name for column in fields(RankedQuery)]
    try:
        with open_regular(file) as stream:
            line = stream.readline(100_000).decode("utf-8")
        return line.rstrip("\n").split(",") == columns if file.suffix == ".csv" else list(parse_json(line)) == columns
    except (OSError, ValueError, TypeError):
        return False


def write_ranks(models: Sequence[EvaluatedModel], file: Path) -> None:
    """Write the rows of all models to ``file`` atomically. Raises StorageError."""
    rows = (row for model in models for row in _rows(model))
    text = _to_csv(rows) if file.suffix == ".csv" else "".join(f"{_json(to_json(row))}\n" for row in rows)
    write_bytes(file, text.encode("utf-8", "backslashreplace"))  # ids may be file names that are not valid UTF-8


def _rows(evaluated: EvaluatedModel) -> Iterator[RankedQuery]:
    name, vectors, dataset = evaluated.model.name, evaluated.model.vectors, evaluated.model.dataset
    ids: Sequence[str | int] = dataset.ids if dataset else range(len(vectors.images))
    captions: Sequence[str | int] = dataset.captions if dataset else range(len(vectors.texts))
    image_of_caption = vectors.image_of_caption.tolist()
    for fold in evaluated.folds:
        for query, rank, best in _iterate(text_to_image(fold, TOP)):
            top_ids = [ids[image] for image in best]
            yield RankedQuery(
                name, "text_to_image", ids[image_of_caption[query]], captions[query], rank, top_ids, top_captions=[]
            )
        for query, rank, best in _iterate(image_to_text(fold, TOP)):
            top_ids = [ids[image_of_caption[caption]] for caption in best]
            top_captions = [captions[caption] for caption in best]
            yield RankedQuery(name, "image_to_text", ids[query], None, rank, top_ids, top_captions)


def _iterate(results: TopResults) -> Iterator[tuple[int, int, list[int]]]:
    return zip(results.queries.tolist(), results.ranks.tolist(), results.best.tolist(), strict=True)


def _vectors(fold: Fold) -> Vectors:
    return Vectors(fold.vectors.images, fold.vectors.texts, fold.vectors.similarity)


def _to_csv(rows: Iterator[RankedQuery]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in fields(RankedQuery))
    for row in rows:
        writer.writerow(_json(value) if isinstance(value, list) else value for value in to_json(row).values())
    return text.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
