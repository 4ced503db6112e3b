"""``xmodal eval`` for captions: results files in COCO format, and captioners, which generate the captions first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeGuard

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.caption_scores import CaptionResult, ScoredCaptions, score_captions
from xmodal_cli.evaluation.embeddings import is_embeddings
from xmodal_cli.evaluation.extras import check_report_folder
from xmodal_cli.evaluation.results_file import is_results, score_results
from xmodal_cli.inference import zero_shot
from xmodal_cli.inference.distinct_names import distinct_names, with_distinct_names
from xmodal_cli.inference.models import ModelInfo, describe_as, describe_model, name_of
from xmodal_cli.reporter import SILENT, Reporter


def find_models(what: Sequence[str]) -> list[str | ModelInfo]:
    """Embeddings files, results files and ``open_clip/...`` names unchanged, other models with distinct names.

    Raises the errors of ``describe_model``.
    """
    found = [
        item if is_results(item) or zero_shot.supports(item) or is_embeddings(item) else describe_model(item)
        for item in what
    ]
    return with_distinct_names(found)


def is_caption_evaluation(what: Sequence[str | ModelInfo]) -> bool:
    """Whether ``what`` (from ``find_models``) has captioners and results files, not matchers and embeddings files.

    Raises ConfigError for a mixture.
    """
    with_captions = [item for item in what if _has_captions(item)]
    if with_captions and len(with_captions) < len(what):
        other = next(item for item in what if not _has_captions(item))
        raise ConfigError(
            f"{name_of(with_captions[0])} (captions) and {name_of(other)} (retrieval) have no metrics in common",
            "evaluate captions and matchers in separate commands",
        )
    return bool(with_captions)


def _has_captions(item: str | ModelInfo) -> bool:
    return is_results(item) if isinstance(item, str) else item.kind == "captioner"


def evaluate_captions(
    what: Sequence[str | ModelInfo],
    data: str | None,
    split: str = "test",
    settings: Sequence[str] = (),
    ensemble: bool = False,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
    report: Path | None = None,
) -> list[CaptionResult]:
    """One result per results file or captioner, in the given order.

    ``settings`` as ``decoding.key=value`` override decoding settings of the captioners; ``ensemble`` adds an ensemble
    of all of them at the end; ``report`` is a folder for a page of its captions, or of those of the only item. Raises,
    before captions are generated if possible, ConfigError, UnknownName, MissingData, and BadData for files that cannot
    be scored.
    """
    if data is None:
        raise ConfigError("captions are scored against a dataset", "add --data, for example --data f8k")
    captioners = [item for item in what if not _is_results(item)]
    if ensemble and len(captioners) < 2:
        raise ConfigError("an ensemble needs at least two captioners", "name two or more, or remove --ensemble")
    if settings and not captioners:
        raise ConfigError("--beam and --set apply only to captioners", "remove them: captions of a file are decoded")
    groups = [[item] for item in what] + ([captioners] if ensemble else [])
    if report is not None:
        _check_report(report, len(what), ensemble)
    _check_early(groups, data, split, settings, compute)
    results: dict[int, CaptionResult] = {}
    for n in sorted(range(len(groups)), key=lambda n: not _is_results(groups[n][0])):  # files first: they take seconds
        found = _evaluate(groups[n], data, split, settings, compute, reporter)
        results[n] = found.result
        if report is not None and n == len(groups) - 1:
            _write_report(found, report)
    names = dict(enumerate(distinct_names(what)))  # the ensemble has none
    return [replace(results[n], model=names.get(n, results[n].model)) for n in range(len(groups))]


def _check_report(folder: Path, num_models: int, ensemble: bool) -> None:
    from xmodal_cli.reports.caption_report import check_caption_report

    check_report_folder(folder, num_models, ensemble)
    check_caption_report(folder)


def _write_report(scored: ScoredCaptions, folder: Path) -> None:
    from xmodal_cli.reports.caption_report import write_caption_report

    write_caption_report(scored, folder)


def _check_early(
    groups: Sequence[Sequence[str | ModelInfo]], data: str, split: str, settings: Sequence[str], compute: Compute
) -> None:
    """Check split, settings, tags and vocabularies from the headers of the models, before one of them is loaded."""
    from xmodal_cli.inference.caption_checks import check_captioners

    compute.check()
    select_captioned(load_dataset(data), split)
    for group in groups:
        if _is_results(group[0]):
            continue
        infos = [describe_as("captioner", item, "evaluate matchers in another command") for item in group]
        check_captioners(infos, settings, (), compute)


def _is_results(item: str | ModelInfo) -> TypeGuard[str]:
    return isinstance(item, str) and is_results(item)


def _evaluate(
    group: Sequence[str | ModelInfo],
    data: str,
    split: str,
    settings: Sequence[str],
    compute: Compute,
    reporter: Reporter,
) -> ScoredCaptions:
    first = group[0]
    if _is_results(first):
        return score_results(Path(first), data, split)
    return score_captioners(group, data, split, None, compute, reporter, settings)


def score_captioners(
    models: Sequence[str | ModelInfo],
    data: str,
    split: str = "test",
    decoding: dict[str, Any] | None = None,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
    overrides: Sequence[str] = (),
) -> ScoredCaptions:
    """The captions of one captioner, or of an ensemble of several, with their scores.

    ``decoding``, and ``overrides`` as ``decoding.key=value``, override decoding settings of the first one. Raises
    XmodalError kinds.
    """
    from xmodal_cli.inference.caption_types import override_decoding
    from xmodal_cli.inference.captioners import check_decoding_of, load_captioner
    from xmodal_cli.inference.dataset_captions import caption_dataset

    dataset = load_dataset(data)
    part = select_captioned(dataset, split)
    captioners = [load_captioner(model, compute) for model in models]
    settings = override_decoding(replace(captioners[0].decoding, **(decoding or {})), overrides)
    check_decoding_of([loaded.info for loaded in captioners], settings, compute)
    part, candidates, tagger = caption_dataset(captioners, part, settings, reporter)
    training = dataset.select(*captioners[0].info.config.data.train_splits).captions
    references, longest = [e.captions for e in part.examples], settings.max_length
    scores = score_captions(candidates, references, training=training, max_length=longest)
    name, changed = " + ".join(loaded.name for loaded in captioners), asdict(settings) if overrides else None
    decoded = replace(scores, beam=settings.beam, decoding=changed, tagger=tagger)
    return ScoredCaptions(replace(decoded, model=name, data=data, split=split), candidates, part.examples)
