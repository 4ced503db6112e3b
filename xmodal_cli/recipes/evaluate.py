"""Evaluate matchers and embeddings files as the papers do: one result per model or file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.embeddings import is_embeddings, read_embeddings
from xmodal_cli.evaluation.ensemble import with_ensemble
from xmodal_cli.evaluation.extras import EvaluatedModel, Extras, add_metrics, check_request
from xmodal_cli.evaluation.scoring import EmbeddedModel, Embeddings, compute_metrics, rank_folds
from xmodal_cli.inference.models import ModelInfo, name_of
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset


def evaluate(
    what: Sequence[str | ModelInfo],
    data: str | None,
    split: str = "test",
    folds: int = 1,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
    extras: Extras | None = None,
) -> list[dict[str, Any]]:
    """One dictionary per model or embeddings file, in the order given, shaped as ``xmodal eval --json``.

    ``data`` may be None for embeddings files, which hold all that is needed. An ensemble, where ``extras`` asks for
    one, comes last. Raises XmodalError kinds for unknown models or data, features of another backbone, files that
    cannot be read, models that make no ensemble.
    """
    extras = extras or Extras()
    check_request([name_of(item) for item in what], data, extras)
    dataset = load_dataset(data) if data is not None else None
    subjects = (_subject(item, dataset, split, compute, reporter) for item in what)
    results, kept = [], []
    for subject in with_ensemble(subjects) if extras.ensemble else subjects:
        folds_of_it = rank_folds(subject.vectors, folds)
        head = {"model": subject.name, "data": data, "split": split if data is not None else None}
        results.append(
            {**head, **add_metrics(compute_metrics(subject.vectors, folds_of_it), subject, folds_of_it, extras)}
        )
        if extras.writes:
            kept.append(EvaluatedModel(subject, folds_of_it, results[-1]))
    write_files(kept, extras)
    return results


def _subject(
    item: str | ModelInfo, dataset: ImageTextDataset | None, split: str, compute: Compute, reporter: Reporter
) -> EmbeddedModel:
    """The vectors of one thing to evaluate, and what they are vectors of."""
    if isinstance(item, str) and is_embeddings(item):
        vectors = read_embeddings(Path(item))
        return EmbeddedModel(Path(item).name, vectors, _part_of(item, vectors, dataset, split))
    if dataset is None:
        raise ConfigError(f"{name_of(item)} is a model, and a model needs data", "add --data, for example --data f8k")
    return _embed(item, dataset, split, compute, reporter)


def _part_of(item: str, vectors: Embeddings, dataset: ImageTextDataset | None, split: str) -> ImageTextDataset | None:
    """The images and captions an embeddings file holds; None where there is no telling which captions they are."""
    if dataset is None:
        return None
    part = dataset.select(split)
    if len(vectors.images) != len(part.examples):
        raise IncompatibleFeatures(
            f"{item} holds {len(vectors.images)} images, {split} of {dataset.name} has {len(part.examples)}",
            "name the split it was made of with --split, or leave --data out",
        )
    return part if np.array_equal(vectors.image_of_caption, part.image_of_caption) else None


def _embed(
    item: str | ModelInfo, dataset: ImageTextDataset, split: str, compute: Compute, reporter: Reporter
) -> EmbeddedModel:
    from xmodal_cli.data.selection import select_captioned
    from xmodal_cli.inference.encoding import embed_images
    from xmodal_cli.inference.matchers import load_matcher

    loaded = load_matcher(item, compute)
    part, images = embed_images(loaded, select_captioned(dataset, split), reporter)
    texts = loaded.embed_texts(part.captions)
    return EmbeddedModel(loaded.name, Embeddings(images, texts, part.image_of_caption, loaded.info.similarity), part)


def write_files(judged: list[EvaluatedModel], extras: Extras) -> None:
    """Write the ranks of all, and the report of the last. Raises StorageError."""
    if extras.ranks is not None:
        from xmodal_cli.evaluation.rank_file import write_ranks

        write_ranks(judged, extras.ranks)
    if extras.report is not None:
        from xmodal_cli.reports.retrieval_report import write_report

        write_report(judged[-1], extras.report, extras.seed)
