"""``xmodal eval`` for matchers and embeddings files: one result per model or file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.embeddings import is_embeddings, read_embeddings
from xmodal_cli.evaluation.ensemble import with_ensemble
from xmodal_cli.evaluation.extras import EvaluatedModel, Extras, add_metrics, check_request
from xmodal_cli.evaluation.scoring import EmbeddedModel, Embeddings, RetrievalResult, compute_metrics, rank_folds
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
) -> list[RetrievalResult]:
    """One result per model or embeddings file, in the given order.

    ``data`` may be None for embeddings files. The ensemble, if ``extras`` requests one, is last. Raises UnknownName or
    MissingData for models and data, IncompatibleFeatures for features of another backbone and models that cannot be
    combined into an ensemble, BadData for unreadable files.
    """
    extras = extras or Extras()
    check_request([name_of(item) for item in what], data, extras)
    dataset = load_dataset(data) if data is not None else None
    models = (_embed(item, dataset, split, compute, reporter) for item in what)
    results: list[RetrievalResult] = []
    evaluated: list[EvaluatedModel] = []
    for model in with_ensemble(models) if extras.ensemble else models:
        ranks = rank_folds(model.vectors, folds)
        result = add_metrics(compute_metrics(model.vectors, ranks), model, ranks, extras)
        results.append(replace(result, model=model.name, data=data, split=None if data is None else split))
        if extras.writes:
            evaluated.append(EvaluatedModel(model, ranks, results[-1]))
    write_files(evaluated, extras)
    return results


def _embed(
    item: str | ModelInfo, dataset: ImageTextDataset | None, split: str, compute: Compute, reporter: Reporter
) -> EmbeddedModel:
    """The embeddings of one model or file, with the images and captions they belong to."""
    if isinstance(item, str) and is_embeddings(item):
        vectors = read_embeddings(Path(item))
        return EmbeddedModel(Path(item).name, vectors, _find_part(item, vectors, dataset, split))
    if dataset is None:
        raise ConfigError(f"evaluating the model {name_of(item)} needs a dataset", "add --data, for example --data f8k")
    return _embed_dataset(item, dataset, split, compute, reporter)


def _find_part(item: str, vectors: Embeddings, dataset: ImageTextDataset | None, split: str) -> ImageTextDataset | None:
    """The images and captions of an embeddings file; None if its captions are not those of the split."""
    if dataset is None:
        return None
    part = dataset.select(split)
    if len(vectors.images) != len(part.examples):
        raise IncompatibleFeatures(
            f"{item} has {len(vectors.images)} images, but {split} of {dataset.name} has {len(part.examples)}",
            "set --split to the split of the file, or remove --data",
        )
    return part if np.array_equal(vectors.image_of_caption, part.image_of_caption) else None


def _embed_dataset(
    item: str | ModelInfo, dataset: ImageTextDataset, split: str, compute: Compute, reporter: Reporter
) -> EmbeddedModel:
    from xmodal_cli.data.selection import select_captioned
    from xmodal_cli.inference.encoding import embed_images
    from xmodal_cli.inference.matchers import load_matcher

    loaded = load_matcher(item, compute)
    part, images = embed_images(loaded, select_captioned(dataset, split), reporter)
    texts = loaded.embed_texts(part.captions)
    return EmbeddedModel(loaded.name, Embeddings(images, texts, part.image_of_caption, loaded.info.similarity), part)


def write_files(evaluated: list[EvaluatedModel], extras: Extras) -> None:
    """Write the ranks of all models, and the report of the last one. Raises StorageError."""
    if extras.ranks is not None:
        from xmodal_cli.evaluation.rank_file import write_ranks

        write_ranks(evaluated, extras.ranks)
    if extras.report is not None:
        from xmodal_cli.reports.retrieval_report import write_report

        write_report(evaluated[-1], extras.report, extras.seed)
