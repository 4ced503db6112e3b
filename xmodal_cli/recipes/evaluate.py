"""``xmodal eval`` for matchers and embeddings files: one result per model or file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.evaluation.embeddings import is_embeddings, read_embeddings
from xmodal_cli.evaluation.ensemble import check_similarities, join, with_ensemble
from xmodal_cli.evaluation.extras import EvaluatedModel, Extras, add_metrics, check_request
from xmodal_cli.evaluation.scoring import (
    EmbeddedModel,
    Embeddings,
    RetrievalResult,
    check_folds,
    compute_metrics,
    rank_folds,
)
from xmodal_cli.evaluation.vectors_origin import find_rows
from xmodal_cli.inference.distinct_names import distinct_names
from xmodal_cli.inference.models import ModelInfo, describe_as, name_of
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
    compute.check()
    check_request([name_of(item) for item in what], data, extras)
    check_files(extras)
    dataset = load_dataset(data) if data is not None else None
    files = _read_files(what, dataset, split, reporter)
    _check_early(what, files, dataset, split, folds, extras)
    models = (
        files[n] if n in files else _embed(item, dataset, split, compute, reporter) for n, item in enumerate(what)
    )
    results: list[RetrievalResult] = []
    evaluated: list[EvaluatedModel] = []
    for model in with_ensemble(models) if extras.ensemble else models:
        ranks = rank_folds(model.vectors, folds)
        result = add_metrics(compute_metrics(model.vectors, ranks, extras.top_k), model, ranks, extras)
        results.append(replace(result, model=model.name, data=data, split=None if data is None else split))
        if extras.writes:
            evaluated.append(EvaluatedModel(model, ranks, results[-1]))
    write_files(evaluated, extras)
    return results


def _read_files(
    what: Sequence[str | ModelInfo], dataset: ImageTextDataset | None, split: str, reporter: Reporter
) -> dict[int, EmbeddedModel]:
    """The embeddings files among ``what``, by position."""
    files, names = {}, distinct_names(what)
    for n, item in enumerate(what):
        if isinstance(item, str) and is_embeddings(item):
            vectors = read_embeddings(Path(item))
            part = _find_part(item, vectors, dataset, split, reporter)
            files[n] = EmbeddedModel(names[n], vectors, part)
    return files


def _check_early(
    what: Sequence[str | ModelInfo],
    files: dict[int, EmbeddedModel],
    dataset: ImageTextDataset | None,
    split: str,
    folds: int,
    extras: Extras,
) -> None:
    """Check what is known before a model is run: split, folds, and whether members of an ensemble fit together."""
    sizes = [len(model.vectors.images) for model in files.values()]
    models = {n: item for n, item in enumerate(what) if n not in files}
    if models and dataset is None:
        name = name_of(next(iter(models.values())))
        raise ConfigError(f"evaluating the model {name} needs a dataset", "add --data, for example --data f8k")
    infos = {n: describe_as("matcher", item, "evaluate captioners in another command") for n, item in models.items()}
    if dataset is not None and infos:
        sizes.append(len(select_captioned(dataset, split).examples))
    check_folds(min(sizes), folds)
    if extras.ensemble:
        names = [files[n].name if n in files else infos[n].name for n in range(len(what))]
        kinds = [files[n].vectors.similarity if n in files else infos[n].similarity for n in range(len(what))]
        check_similarities(names, kinds)
        if len(files) > 1:
            join(list(files.values()))


def _find_part(
    item: str, vectors: Embeddings, dataset: ImageTextDataset | None, split: str, reporter: Reporter
) -> ImageTextDataset | None:
    """The images and captions of an embeddings file; None if its captions are not those of the split.

    Raises IncompatibleFeatures for a file of another split or dataset.
    """
    if dataset is None:
        return None
    if vectors.origin is not None:
        return find_rows(item, vectors.origin, dataset, split)
    part = dataset.select(split)
    if len(vectors.images) != len(part.examples):
        raise IncompatibleFeatures(
            f"{item} has {len(vectors.images)} images, but {split} of {dataset.name} has {len(part.examples)}",
            "set --split to the split of the file, or remove --data",
        )
    if not np.array_equal(vectors.image_of_caption, part.image_of_caption):
        return None
    reporter.warn(f"{item} does not record its images: its rows are taken to be {split} of {dataset.name}, in order")
    return part


def _embed(
    item: str | ModelInfo, dataset: ImageTextDataset | None, split: str, compute: Compute, reporter: Reporter
) -> EmbeddedModel:
    """The embeddings of one model, with the images and captions they belong to."""
    from xmodal_cli.inference.encoding import embed_images
    from xmodal_cli.inference.matchers import load_matcher

    assert dataset is not None  # as _check_early requires
    loaded = load_matcher(item, compute)
    part, images = embed_images(loaded, select_captioned(dataset, split), reporter)
    texts = loaded.embed_texts(part.captions)
    return EmbeddedModel(loaded.name, Embeddings(images, texts, part.image_of_caption, loaded.info.similarity), part)


def check_files(extras: Extras) -> None:
    """Raise StorageError if the rank file or the report cannot be written, or would replace other files."""
    if extras.ranks is not None:
        from xmodal_cli.evaluation.rank_file import check_rank_file

        check_rank_file(extras.ranks)
    if extras.report is not None:
        from xmodal_cli.reports.retrieval_report import check_report

        check_report(extras.report)


def write_files(evaluated: list[EvaluatedModel], extras: Extras) -> None:
    """Write the ranks of all models, and the report of the last one. Raises StorageError."""
    if extras.ranks is not None:
        from xmodal_cli.evaluation.rank_file import write_ranks

        write_ranks(evaluated, extras.ranks)
    if extras.report is not None:
        from xmodal_cli.reports.retrieval_report import write_report

        write_report(evaluated[-1], extras.report, extras.seed)
