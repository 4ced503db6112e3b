"""Optional parts of a retrieval evaluation: ensembles, confidence intervals, NDCG, rank files and reports.

Modules of options that are not set are not imported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from xmodal_cli.errors import ConfigError, IncompatibleFeatures, StorageError
from xmodal_cli.evaluation.scoring import DIRECTIONS, EmbeddedModel, Fold, RetrievalResult
from xmodal_cli.metrics.retrieval.recall import K

MAX_RESAMPLES = 100_000
RANK_FILES = (".jsonl", ".csv")
ENSEMBLE_HINT = "give two models or more, or omit --ensemble"


@dataclass(frozen=True)
class Extras:
    """The options. ``seed`` is that of the bootstrap and of the sample of queries in the report.

    ``ensemble`` adds the result of all models as one; ``bootstrap`` is the number of resamples, 0 for none; ``ndcg``
    adds NDCG@25; ``top_k`` are the cut-offs of R@K; ``ranks`` is a file with one row per query; ``report`` is a folder
    for an HTML page with images.
    """

    ensemble: bool = False
    bootstrap: int = 0
    ndcg: bool = False
    ranks: Path | None = None
    report: Path | None = None
    seed: int = 0
    top_k: tuple[int, ...] = K

    @property
    def writes(self) -> bool:
        """Whether files are written."""
        return self.ranks is not None or self.report is not None


@dataclass(frozen=True)
class EvaluatedModel:
    """A model with its ranks and its metrics."""

    model: EmbeddedModel
    folds: list[Fold]
    result: RetrievalResult


def check_request(what: list[str], data: str | None, extras: Extras) -> None:
    """Check the options before anything is computed. Raises ConfigError, StorageError."""
    if not extras.top_k or not all(type(cut_off) is int and cut_off > 0 for cut_off in extras.top_k):
        raise ConfigError("the cut-offs of R@K must be whole numbers of at least 1", "for example 1, 5, 10 and 50")
    if extras.bootstrap > MAX_RESAMPLES:
        message = f"--bootstrap must be at most {MAX_RESAMPLES:,}, not {extras.bootstrap:,}"
        raise ConfigError(message, "1,000 resamples are usual: --bootstrap 1000")
    if extras.ensemble and len(what) == 1:
        raise ConfigError(f"an ensemble of {what[0]} needs another model", ENSEMBLE_HINT)
    if data is None and (extras.ndcg or extras.report):
        option = "--ndcg" if extras.ndcg else "--report"
        raise ConfigError(f"{option} needs the captions of the dataset", "add --data")
    if extras.ranks is not None and extras.ranks.suffix not in RANK_FILES:
        raise ConfigError(
            f"ranks cannot be written as {extras.ranks.suffix or extras.ranks}",
            f"use the extension {' or '.join(RANK_FILES)} for --ranks",
        )
    if extras.report is not None:
        check_report_folder(extras.report, len(what), extras.ensemble)


def add_metrics(result: RetrievalResult, model: EmbeddedModel, folds: list[Fold], extras: Extras) -> RetrievalResult:
    """``result`` with NDCG@25 in both directions and confidence intervals, as set in ``extras``."""
    per_query: list[dict[str, dict[str, np.ndarray]]] = [{} for _ in folds]
    if extras.ndcg:
        from xmodal_cli.evaluation.rouge_ndcg import NAME, fold_ndcg

        captions = captions_of(model)
        for n, fold in enumerate(folds):
            values = fold_ndcg(fold, [captions[row] for row in fold.captions])
            per_query[n] = {side: {NAME: values[side]} for side in DIRECTIONS}
        means = {
            side: round(float(np.mean([np.nanmean(values[side][NAME]) for values in per_query])), 6)
            for side in DIRECTIONS
        }
        result = replace(
            result,
            image_to_text={**result.image_to_text, NAME: means["image_to_text"]},
            text_to_image={**result.text_to_image, NAME: means["text_to_image"]},
        )
    if extras.bootstrap:
        from xmodal_cli.evaluation.bootstrap import confidence_intervals

        intervals = confidence_intervals(folds, extras.bootstrap, extras.seed, per_query, extras.top_k)
        result = replace(result, confidence=intervals, bootstrap=extras.bootstrap)
    return result


def captions_of(model: EmbeddedModel) -> list[str]:
    """The captions of the text vectors, in their order. Raises IncompatibleFeatures if they are unknown."""
    if model.dataset is None:
        raise IncompatibleFeatures(
            f"{model.name} does not have the captions of the dataset in order",
            "create it with `xmodal features DATA --model M --split S`, or omit --ndcg and --report",
        )
    return model.dataset.captions


def check_report_folder(folder: Path, num_models: int, ensemble: bool) -> None:
    """Raise StorageError if ``folder`` is a file, ConfigError for several models without an ensemble."""
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is a file, but a report is a folder", "give --report another path")
    if num_models > 1 and not ensemble:
        raise ConfigError("a report is for one model", "give one model, or add --ensemble for a report of the ensemble")
