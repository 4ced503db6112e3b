"""What an evaluation gives besides the figures of the papers. What is not asked for is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import ConfigError, IncompatibleFeatures, StorageError
from xmodal_cli.evaluation.scoring import DIRECTIONS, EmbeddedModel, Fold

RANK_FILES = (".jsonl", ".csv")


@dataclass(frozen=True)
class Extras:
    """What is wanted; ``seed`` is of the bootstrap's draws and of the report's sample of queries.

    ``ensemble`` adds a last result, of all that was named as one; ``bootstrap`` is a number of draws; ``ndcg`` adds
    NDCG@25; ``ranks`` is a file to write, a row per query; ``report`` a folder to write a page with pictures into.
    """

    ensemble: bool = False
    bootstrap: int = 0
    ndcg: bool = False
    ranks: Path | None = None
    report: Path | None = None
    seed: int = 0

    @property
    def writes(self) -> bool:
        """Whether files are wanted."""
        return self.ranks is not None or self.report is not None


@dataclass(frozen=True)
class EvaluatedModel:
    """One subject, its ranks and the result that was made of them."""

    subject: EmbeddedModel
    folds: list[Fold]
    result: dict[str, Any]


def check_request(what: list[str], data: str | None, extras: Extras) -> None:
    """Raise ConfigError or StorageError for what cannot be done, before anything is computed."""
    if extras.ensemble and len(what) == 1:
        raise ConfigError(f"{what[0]} alone is no ensemble", "name two models or more, or leave --ensemble out")
    if data is None and (extras.ndcg or extras.report):
        wish = "--ndcg" if extras.ndcg else "--report"
        raise ConfigError(f"{wish} reads the captions, and these come with the data", "add --data")
    if extras.ranks is not None and extras.ranks.suffix not in RANK_FILES:
        raise ConfigError(
            f"ranks cannot be written as {extras.ranks.suffix or extras.ranks}",
            f"end --ranks in {' or '.join(RANK_FILES)}",
        )
    if extras.report is not None and extras.report.exists() and not extras.report.is_dir():
        raise StorageError(f"{extras.report} is a file, and a report is a folder", "give --report another name")
    if extras.report is not None and len(what) > 1 and not extras.ensemble:
        raise ConfigError("a report is of one model", "name one, or add --ensemble for a report of all as one")


def add_metrics(result: dict[str, Any], subject: EmbeddedModel, folds: list[Fold], extras: Extras) -> dict[str, Any]:
    """``result`` with NDCG@25 in both directions and confidence intervals, where they are wanted."""
    per_query: list[dict[str, dict[str, np.ndarray]]] = [{} for _ in folds]
    if extras.ndcg:
        from xmodal_cli.evaluation.rouge_ndcg import NAME, fold_ndcg

        captions = captions_of(subject)
        for n, fold in enumerate(folds):
            values = fold_ndcg(fold, [captions[row] for row in fold.captions])
            per_query[n] = {side: {NAME: values[side]} for side in DIRECTIONS}
        for side in DIRECTIONS:
            means = [np.nanmean(values[side][NAME]) for values in per_query]
            result = {**result, side: {**result[side], NAME: round(float(np.mean(means)), 6)}}
    if extras.bootstrap:
        from xmodal_cli.evaluation.bootstrap import confidence

        intervals = confidence(folds, extras.bootstrap, extras.seed, per_query)
        result = {**result, "confidence": intervals, "bootstrap": extras.bootstrap}
    return result


def captions_of(subject: EmbeddedModel) -> list[str]:
    """The captions that the texts' vectors are of. Raises IncompatibleFeatures where nobody knows."""
    if subject.part is None:
        raise IncompatibleFeatures(
            f"{subject.name} does not hold the captions of the data in their order",
            "make it with `xmodal features DATA --model M --split S`, or leave --ndcg and --report out",
        )
    return subject.part.captions
