"""``xmodal eval`` for captions: COCO-style results files, and captioners, whose captions are generated first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from xmodal_cli.config import from_dict
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import captioned
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.evaluation.embeddings import is_embeddings
from xmodal_cli.evaluation.results_file import is_results, score_results
from xmodal_cli.features.image_features import read_image_features
from xmodal_cli.inference import zero_shot
from xmodal_cli.inference.captioners import BATCH, caption_features, check_ensemble, load_captioner
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.towers import input_features
from xmodal_cli.types import (
    Reporter,
    SilentReporter,
)


def about_captions(what: list[str]) -> bool:
    """Whether all of ``what`` is about captions, results files and captioners, or none of it is.

    Raises ConfigError for a mixture, and what reading a model's header raises.
    """
    ours = [item for item in what if is_results(item) or _is_captioner(item)]
    if ours and len(ours) < len(what):
        other = next(item for item in what if item not in ours)
        raise ConfigError(
            f"{ours[0]} is about captions and {other} is not: they have no figures in common",
            "evaluate captions and matchers in two calls",
        )
    return bool(ours)


def _is_captioner(what: str) -> bool:
    if zero_shot.supports(what) or is_embeddings(what):
        return False

    return describe_model(what).kind == "captioner"


def evaluate_captions(
    what: list[str],
    data: str | None,
    split: str = "test",
    decoding: dict[str, Any] | None = None,
    ensemble: bool = False,
    where: tuple[str, str] = ("auto", "auto"),
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """One dictionary per results file or captioner, in the order given, shaped as ``xmodal eval --json``.

    ``decoding`` changes how captioners decode, ``ensemble`` adds all of them as one at the end, ``where`` is device and
    precision. Raises XmodalError kinds for unknown models or data, and for files that cannot be scored.
    """
    if data is None:
        raise ConfigError("captions are scored against a dataset's", "add --data, for example --data f8k")
    captioners = [item for item in what if not is_results(item)]
    if ensemble and len(captioners) < 2:
        raise ConfigError("an ensemble needs two captioners", "name two or more, or leave --ensemble out")
    reporter = reporter or SilentReporter()
    groups = [[item] for item in what] + ([captioners] if ensemble else [])
    return [_evaluate(group, data, split, decoding, where, reporter) for group in groups]


def _evaluate(
    group: list[str],
    data: str,
    split: str,
    decoding: dict[str, Any] | None,
    where: tuple[str, str],
    reporter: Reporter,
) -> dict[str, Any]:
    if is_results(group[0]):
        return score_results(Path(group[0]), data, split)
    pass

    return evaluate_captioner(group, data, split, decoding, where, reporter)


def evaluate_captioner(
    names: Sequence[str],
    data: str,
    split: str = "test",
    decoding: dict[str, Any] | None = None,
    where: tuple[str, str] = ("auto", "auto"),
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """The figures of one captioner, or of several as an ensemble, shaped as ``xmodal eval --json`` has them.

    ``decoding`` goes on top of how the first one decodes; ``where`` is device and precision. Raises XmodalError kinds.
    """
    from xmodal_cli.types import SilentReporter

    reporter = reporter or SilentReporter()
    captioners = [load_captioner(name, *where) for name in names]
    check_ensemble(captioners)
    settings = replace(captioners[0].decoding, **(decoding or {}))
    dataset = load_dataset(data)
    part = captioned(dataset, split)
    features: dict[Any, Tensor] = {}
    for loaded in captioners:
        if loaded.meta.key() not in features:
            found = read_image_features(
                part, input_features(from_dict(loaded.summary.header.training)), *where, reporter
            )
            assert found.features is not None
            part, features[loaded.meta.key()] = found.dataset, found.features
    sentences: list[str] = []
    with reporter.task("captions", len(part.examples), "images") as bar:
        for start in range(0, len(part.examples), BATCH):
            batch = [features[loaded.meta.key()][start : start + BATCH] for loaded in captioners]
            sentences += [n_best[0].text for n_best in caption_features(captioners, batch, settings, first=start)]
            bar.advance(len(batch[0]))
    training = dataset.select(*from_dict(captioners[0].summary.header.training).data.train_splits).captions
    scores = score_captions(sentences, [e.captions for e in part.examples], training=training)
    head = {"model": " + ".join(loaded.name for loaded in captioners), "data": data, "split": split}
    return {**head, "images": len(part.examples), "beam": settings.beam, **scores}
