"""``xmodal eval`` for taggers: mean average precision of the tags, precision and recall at k."""

from __future__ import annotations

from collections.abc import Sequence

from xmodal_cli.captioning.tag_vocabulary import tag_targets
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.tag_scores import TagResult, score_tags
from xmodal_cli.inference.models import ModelInfo, name_of
from xmodal_cli.reporter import SILENT, Reporter


def is_tag_evaluation(what: Sequence[str | ModelInfo]) -> bool:
    """Whether ``what`` (from ``find_models``) has taggers only. Raises ConfigError for a mixture with other kinds."""
    taggers = [item for item in what if _is_tagger(item)]
    if taggers and len(taggers) < len(what):
        other = next(item for item in what if not _is_tagger(item))
        raise ConfigError(
            f"{name_of(taggers[0])} (tags) and {name_of(other)} have no metrics in common",
            "evaluate taggers and other models in separate commands",
        )
    return bool(taggers)


def _is_tagger(item: str | ModelInfo) -> bool:
    return isinstance(item, ModelInfo) and item.kind == "tagger"


def evaluate_taggers(
    what: Sequence[str | ModelInfo],
    data: str | None,
    split: str = "test",
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> list[TagResult]:
    """One result per tagger. An image has a tag if any of its captions contains it.

    Raises ConfigError without ``data``, and XmodalError kinds.
    """
    from xmodal_cli.inference.taggers import dataset_probabilities, load_tagger

    compute.check()
    if data is None:
        raise ConfigError("tags are scored against the captions of a dataset", "add --data, for example --data f8k")
    part = select_captioned(load_dataset(data), split)
    results = []
    for item in what:
        loaded = load_tagger(item, compute)
        readable, probabilities = dataset_probabilities(loaded, part, reporter)
        positives = tag_targets([example.captions for example in readable.examples], loaded.tags) > 0
        counts = (len(readable.examples), len(loaded.tags), int(positives.any(0).sum()))
        results.append(TagResult(loaded.name, data, split, *counts, score_tags(probabilities, positives)))
    return results
