"""The rank of every query and its best answers, as a file to look into: JSON Lines or CSV, a row per query."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.evaluation.extras import EvaluatedModel
from xmodal_cli.evaluation.scoring import Fold
from xmodal_cli.paths import write_bytes
from xmodal_cli.retrieval.top_k import Vectors, top_images, top_texts

TOP = 5
COLUMNS = ("model", "direction", "image_id", "caption", "rank", "top_image_ids", "top_captions")


@dataclass(frozen=True)
class Answers:
    """The best answers to the queries of one direction, in rows of the whole split.

    ``queries`` (queries,), ``ranks`` (queries,) 1-based, ``best`` (queries, k) best first.
    """

    queries: np.ndarray
    ranks: np.ndarray
    best: np.ndarray


def text_to_image(fold: Fold, k: int) -> Answers:
    """The best images for every caption of a fold."""
    best = top_images(_vectors(fold), k, lambda image, text: fold.vectors.image_of_caption[text] == image)
    return Answers(fold.captions, fold.ranks.text_to_image, fold.images[best])


def image_to_text(fold: Fold, k: int) -> Answers:
    """The best captions for every captioned image of a fold."""
    owner = fold.vectors.image_of_caption
    asked = np.unique(owner)
    best = top_texts(_vectors(fold), k, lambda image, text: owner[text] == image)[asked]
    return Answers(fold.images[asked], fold.ranks.image_to_text, fold.captions[best])


def write_ranks(judged: Sequence[EvaluatedModel], file: Path) -> None:
    """Write the rows of all, one model after the other, in one step. Raises StorageError.

    Images and captions are told by their number in the file of vectors where no data says what they are.
    """
    rows = (row for one in judged for row in _rows(one))
    text = _as_csv(rows) if file.suffix == ".csv" else "".join(f"{_json(row)}\n" for row in rows)
    write_bytes(file, text.encode("utf-8", "backslashreplace"))  # ids may be names of files that are no UTF-8


def _rows(one: EvaluatedModel) -> Iterator[dict[str, Any]]:
    vectors, part = one.subject.vectors, one.subject.part
    ids: Sequence[Any] = part.ids if part else range(len(vectors.images))
    captions: Sequence[Any] = part.captions if part else range(len(vectors.texts))
    owner = vectors.image_of_caption.tolist()
    for fold in one.folds:
        for query, rank, best in _listed(text_to_image(fold, TOP)):
            answers = {"top_image_ids": [ids[image] for image in best], "top_captions": []}
            told = {"image_id": ids[owner[query]], "caption": captions[query], "rank": rank}
            yield {"model": one.subject.name, "direction": "text_to_image", **told, **answers}
        for query, rank, best in _listed(image_to_text(fold, TOP)):
            answers = {"top_image_ids": [ids[owner[c]] for c in best], "top_captions": [captions[c] for c in best]}
            told = {"image_id": ids[query], "caption": None, "rank": rank}
            yield {"model": one.subject.name, "direction": "image_to_text", **told, **answers}


def _listed(answers: Answers) -> Iterator[tuple[int, int, list[int]]]:
    return zip(answers.queries.tolist(), answers.ranks.tolist(), answers.best.tolist(), strict=True)


def _vectors(fold: Fold) -> Vectors:
    return Vectors(fold.vectors.images, fold.vectors.texts, fold.vectors.similarity)


def _as_csv(rows: Iterator[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_json(row[name]) if isinstance(row[name], list) else row[name] for name in COLUMNS)
    return text.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
