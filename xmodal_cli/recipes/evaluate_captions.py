"""``xmodal eval`` for captions: COCO-style results files, and captioners, whose captions are generated first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.evaluation.embeddings import is_embeddings
from xmodal_cli.evaluation.results_file import is_results, score_results
from xmodal_cli.inference import zero_shot
from xmodal_cli.inference.models import ModelInfo, describe_model, name_of
from xmodal_cli.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from torch import Tensor


def find_models(what: Sequence[str]) -> list[str | ModelInfo]:
    """Files of vectors or captions and ``open_clip/...`` names as they are, other models with their headers read.

    Raises what ``describe_model`` raises.
    """
    return [
        item if is_results(item) or zero_shot.supports(item) or is_embeddings(item) else describe_model(item)
        for item in what
    ]


def about_captions(what: Sequence[str | ModelInfo]) -> bool:
    """Whether all of ``what`` (of ``find_models``) is about captions, results files and captioners, or none of it is.

    Raises ConfigError for a mixture.
    """
    ours = [item for item in what if _is_about_captions(item)]
    if ours and len(ours) < len(what):
        other = next(item for item in what if not _is_about_captions(item))
        raise ConfigError(
            f"{name_of(ours[0])} is about captions and {name_of(other)} is not: they have no figures in common",
            "evaluate captions and matchers in two calls",
        )
    return bool(ours)


def _is_about_captions(item: str | ModelInfo) -> bool:
    return is_results(item) if isinstance(item, str) else item.kind == "captioner"


def evaluate_captions(
    what: Sequence[str | ModelInfo],
    data: str | None,
    split: str = "test",
    decoding: dict[str, Any] | None = None,
    ensemble: bool = False,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> list[dict[str, Any]]:
    """One dictionary per results file or captioner, in the order given, shaped as ``xmodal eval --json``.

    ``decoding`` changes how captioners decode, ``ensemble`` adds all of them as one at the end.
    Raises XmodalError kinds for unknown models or data, and for files that cannot be scored.
    """
    if data is None:
        raise ConfigError("captions are scored against a dataset's", "add --data, for example --data f8k")
    captioners = [item for item in what if not _is_results(item)]
    if ensemble and len(captioners) < 2:
        raise ConfigError("an ensemble needs two captioners", "name two or more, or leave --ensemble out")
    groups = [[item] for item in what] + ([captioners] if ensemble else [])
    return [_evaluate(group, data, split, decoding, compute, reporter) for group in groups]


def _is_results(item: str | ModelInfo) -> TypeGuard[str]:
    return isinstance(item, str) and is_results(item)


def _evaluate(
    group: Sequence[str | ModelInfo],
    data: str,
    split: str,
    decoding: dict[str, Any] | None,
    compute: Compute,
    reporter: Reporter,
) -> dict[str, Any]:
    first = group[0]
    if _is_results(first):
        return score_results(Path(first), data, split)
    return evaluate_captioner(group, data, split, decoding, compute, reporter)


def evaluate_captioner(
    models: Sequence[str | ModelInfo],
    data: str,
    split: str = "test",
    decoding: dict[str, Any] | None = None,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """The figures of one captioner, or of several as an ensemble, shaped as ``xmodal eval --json`` has them.

    ``decoding`` goes on top of how the first one decodes. Raises XmodalError kinds.
    """
    from xmodal_cli.features.image_features import read_image_features
    from xmodal_cli.inference.captioners import BATCH, caption_features, check_ensemble, load_captioner
    from xmodal_cli.inference.towers import input_features

    captioners = [load_captioner(model, compute) for model in models]
    check_ensemble(captioners)
    settings = replace(captioners[0].decoding, **(decoding or {}))
    dataset = load_dataset(data)
    part = select_captioned(dataset, split)
    features: dict[Any, Tensor] = {}
    for loaded in captioners:
        if loaded.meta.key() not in features:
            found = read_image_features(part, input_features(loaded.info.config), compute, reporter)
            assert found.features is not None
            part, features[loaded.meta.key()] = found.dataset, found.features
    sentences: list[str] = []
    with reporter.task("captions", len(part.examples), "images") as bar:
        for start in range(0, len(part.examples), BATCH):
            batch = [features[loaded.meta.key()][start : start + BATCH] for loaded in captioners]
            sentences += [n_best[0].text for n_best in caption_features(captioners, batch, settings, first=start)]
            bar.advance(len(batch[0]))
    training = dataset.select(*captioners[0].info.config.data.train_splits).captions
    scores = score_captions(sentences, [e.captions for e in part.examples], training=training)
    head = {"model": " + ".join(loaded.name for loaded in captioners), "data": data, "split": split}
    return {**head, "images": len(part.examples), "beam": settings.beam, **scores}
