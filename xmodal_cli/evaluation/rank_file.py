"""Rank files: the rank and the top results of every query, as JSON Lines or CSV with one row per query."""

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


def write_ranks(models: Sequence[EvaluatedModel], file: Path) -> None:
    """Write the rows of all models to ``file`` atomically. Raises StorageError.

    Without a dataset, images and captions are identified by their row index in the embeddings file.
    """
    rows = (row for model in models for row in _rows(model))
    text = _to_csv(rows) if file.suffix == ".csv" else "".join(f"{_json(row)}\n" for row in rows)
    write_bytes(file, text.encode("utf-8", "backslashreplace"))  # ids may be file names that are not valid UTF-8


def _rows(evaluated: EvaluatedModel) -> Iterator[dict[str, Any]]:
    vectors, dataset = evaluated.model.vectors, evaluated.model.dataset
    ids: Sequence[Any] = dataset.ids if dataset else range(len(vectors.images))
    captions: Sequence[Any] = dataset.captions if dataset else range(len(vectors.texts))
    image_of_caption = vectors.image_of_caption.tolist()
    for fold in evaluated.folds:
        for query, rank, best in _iterate(text_to_image(fold, TOP)):
            head = {
                "model": evaluated.model.name,
                "direction": "text_to_image",
                "image_id": ids[image_of_caption[query]],
            }
            top = {"top_image_ids": [ids[image] for image in best], "top_captions": []}
            yield {**head, "caption": captions[query], "rank": rank, **top}
        for query, rank, best in _iterate(image_to_text(fold, TOP)):
            head = {"model": evaluated.model.name, "direction": "image_to_text", "image_id": ids[query]}
            top_ids = [ids[image_of_caption[caption]] for caption in best]
            top = {"top_image_ids": top_ids, "top_captions": [captions[caption] for caption in best]}
            yield {**head, "caption": None, "rank": rank, **top}


def _iterate(results: TopResults) -> Iterator[tuple[int, int, list[int]]]:
    return zip(results.queries.tolist(), results.ranks.tolist(), results.best.tolist(), strict=True)


def _vectors(fold: Fold) -> Vectors:
    return Vectors(fold.vectors.images, fold.vectors.texts, fold.vectors.similarity)


def _to_csv(rows: Iterator[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_json(row[name]) if isinstance(row[name], list) else row[name] for name in COLUMNS)
    return text.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
