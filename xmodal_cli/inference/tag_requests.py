"""The tags of a caption request: words, ``auto`` for those of a tagger, or ``none``; and which tagger predicts them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xmodal_cli.captioning.tags import tag_prompt
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures, MissingData, UnknownName, XmodalError
from xmodal_cli.inference.captioners import LoadedCaptioner
from xmodal_cli.inference.defaults import default_tagger
from xmodal_cli.inference.models import ModelInfo, describe_as, describe_model, model_names
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import ImageTextDataset

if TYPE_CHECKING:
    from xmodal_cli.inference.taggers import LoadedTagger

AUTO, NONE = "auto", "none"
TRAIN = "train one with `xmodal train --model tagger --data DATA`"
UNTRAINED = "leave out --tags, or train a captioner with --set captioning.tag_prob=0.5"
HINT = "--tags auto:NAME takes a tagger; `xmodal models list` shows them"


@dataclass(frozen=True)
class TagSource:
    """Where the tags of an image come from: fixed ``words``, or the ``num`` best ones of ``tagger``."""

    words: tuple[str, ...] = ()
    tagger: LoadedTagger | None = None
    num: int = 0

    def tags(self, captioner: LoadedCaptioner, features: Any, num_images: int) -> list[list[str]]:
        """The tags of each image; ``features`` are those that the tagger reads, (images, ...), if there is one.

        Predicted tags that are out of the captioner's vocabulary are skipped.
        """
        if self.tagger is None:
            return [list(self.words)] * num_images
        return self.best(captioner, self.tagger.probabilities(features))

    def best(self, captioner: LoadedCaptioner, probabilities: np.ndarray) -> list[list[str]]:
        """The best tags of each image from (images, tags) probabilities of the tagger."""
        from xmodal_cli.inference.taggers import tag_words

        assert self.tagger is not None
        return tag_words(self.tagger, probabilities, captioner.tokenizer, self.num)


def find_tag_source(requested: Sequence[str], captioner: LoadedCaptioner, compute: Compute) -> TagSource:
    """The source of ``requested``: words, ``("auto",)``, ``("auto:TAGGER",)``, ``("none",)``, or () as in training.

    Raises ConfigError for out-of-vocabulary words and a captioner that was not trained with tags, MissingData if no
    tagger exists, UnknownName if there are several, IncompatibleFeatures if the captioner was trained with the tags of
    another one, and the errors of ``load_tagger``.
    """
    words, tagger = check_tags(requested, captioner.info, captioner.tokenizer)
    if tagger is not None:
        from xmodal_cli.inference.tagger_runtime import load_exported_tagger
        from xmodal_cli.inference.taggers import load_tagger

        is_exported = captioner.compute.runtime == "onnx"
        loaded = load_exported_tagger(describe_model(tagger), SILENT) if is_exported else load_tagger(tagger, compute)
        return TagSource((), loaded, captioner.info.config.captioning.num_tags)
    return TagSource(words)


def check_tags(
    requested: Sequence[str], captioner: ModelInfo, tokenizer: Tokenizer
) -> tuple[tuple[str, ...], str | None]:
    """The words and the name of the tagger of ``find_tag_source``, one of which is empty; raises its errors.

    No model is loaded.
    """
    first, _, name = requested[0].partition(":") if len(requested) == 1 else ("", "", "")
    if requested and first != NONE and not captioner.config.captioning.tag_prob:
        raise ConfigError(f"{captioner.name} was not trained with tags", UNTRAINED)
    if first == AUTO:
        return (), _named(name) if name else _usual(captioner)
    if not requested and captioner.header.architecture.get("tagger") is not None:
        return (), _usual(captioner)
    words = () if first == NONE else tuple(requested)
    tag_prompt(tokenizer, words)
    return words, None


def dataset_prompts(
    source: TagSource, captioner: LoadedCaptioner, dataset: ImageTextDataset, reporter: Reporter
) -> list[list[int]]:
    """The prompt tokens of each image of ``dataset``, of readable images; predicted tags come from cached features."""
    tags = [list(source.words)] * len(dataset.examples)
    if source.tagger is not None:
        from xmodal_cli.inference.taggers import dataset_probabilities

        readable, probabilities = dataset_probabilities(source.tagger, dataset, reporter)
        best = source.best(captioner, probabilities)
        by_id = dict(zip(readable.ids, best, strict=True))
        tags = [by_id.get(image_id, []) for image_id in dataset.ids]
    return [tag_prompt(captioner.tokenizer, words) for words in tags]


def _named(name: str) -> str:
    describe_as("tagger", name, HINT)
    return name


def _usual(captioner: ModelInfo) -> str:
    """The tagger that the captioner was trained with, or else the default one."""
    trained_with = captioner.header.architecture.get("tagger")
    if trained_with is None:
        return default_tagger() or _only_tagger()
    name = str(captioner.config.captioning.tagger)
    hint = "train it again, name another one with --tags auto:NAME, or use --tags none"
    try:
        info = describe_model(name)
    except (MissingData, UnknownName) as error:
        raise MissingData(f"{captioner.name} was trained with the tagger {name}, which does not exist", hint) from error
    if info.fingerprint != trained_with["fingerprint"]:
        raise IncompatibleFeatures(
            f"{captioner.name} was trained with another version of the tagger {name}",
            f"--tags {shlex.quote('auto:' + name)} uses this one, --tags none uses none",
        )
    return name


def _only_tagger() -> str:
    """The trained tagger, if there is one only. Raises MissingData, UnknownName."""
    found = []
    for name in model_names():
        try:
            found += [name] if describe_model(name).kind == "tagger" else []
        except XmodalError:  # an unreadable model is not the one
            continue
    if not found:
        raise MissingData("there is no tagger", TRAIN)
    if len(found) > 1:
        hint = f"choose one: {xmodal_command('models', 'default', found[0])}"
        raise UnknownName(f"there are several taggers: {', '.join(found)}", hint)
    return found[0]
