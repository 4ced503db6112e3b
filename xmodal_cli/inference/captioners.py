"""Trained captioners: loaded, asked for captions, evaluated. Several of one vocabulary speak as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from xmodal_cli import starter
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.captions import Caption
from xmodal_cli.inference.models import ModelInfo, describe_as
from xmodal_cli.inference.towers import load_towers
from xmodal_cli.inference.weights import load_weights
from xmodal_cli.models.assembly import build_captioner
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.types import Captioner, Decoding, FeatureMeta, Hypothesis, SpecialTokens

if TYPE_CHECKING:
    from collections.abc import Iterator


BATCH = 64  # images decoded at once


@dataclass(frozen=True)
class LoadedCaptioner:
    """A captioner in evaluation mode, on the device of ``compute``, which is resolved. ``model`` is an nn.Module."""

    info: ModelInfo
    model: Captioner
    tokenizer: Tokenizer
    compute: Compute

    @property
    def name(self) -> str:
        """The run's or the file's name."""
        return self.info.name

    @property
    def meta(self) -> FeatureMeta:
        """The image features it reads."""
        return self.info.meta

    @property
    def decoding(self) -> Decoding:
        """How it writes captions unless told otherwise: as the settings of its training say."""
        return self.info.config.decoding


def load_captioner(what: str | ModelInfo, compute: Compute = Compute()) -> LoadedCaptioner:
    """A captioner with its weights, by name or by what ``describe_model`` gave for it.

    Raises MissingData, BadModel, UnknownName, DownloadError, ConfigError.
    """
    info = describe_as("captioner", what, "`xmodal models list` shows the captioners; --nearest takes a matcher")
    starter.check(info.path)
    architecture = info.header.architecture
    model = build_captioner(architecture, load_towers(info.name, architecture))
    load_weights(model, info)
    compute = compute.resolve()
    tokenizer = Tokenizer.from_json(info.header.tokenizer)
    return LoadedCaptioner(info, cast(Captioner, model.eval().to(compute.device)), tokenizer, compute)


def caption_features(
    captioners: Sequence[LoadedCaptioner],
    features: Sequence[Tensor],
    settings: Decoding,
    prompt: Sequence[int] = (),
    attention: bool = False,
    first: int = 0,
) -> list[list[Caption]]:
    """For each image ``settings.num`` captions, best first. ``features``: (images, ...) for each of the captioners.

    ``first`` is the first image's place in the whole job, by which its random numbers are drawn. Several captioners are
    an ensemble. Raises ConfigError where they differ in vocabulary, or for impossible settings.
    """
    speaker = captioners[0]
    check_ensemble(captioners)
    model: Captioner = speaker.model if len(captioners) == 1 else Ensemble([loaded.model for loaded in captioners])
    answers: list[list[Caption]] = []
    for start in range(0, len(features[0]), BATCH):
        batch = tuple(part[start : start + BATCH].to(speaker.compute.device) for part in features)
        whole = batch if len(batch) > 1 else batch[0]
        with torch.inference_mode(), speaker.compute.autocast():
            special_tokens = speaker.tokenizer.special_tokens
            found = decode(model, whole, special_tokens, settings, prompt, attention, first + start)
        answers += [[_caption(hypothesis, speaker.tokenizer) for hypothesis in n_best] for n_best in found]
    return answers


def check_ensemble(captioners: Sequence[LoadedCaptioner]) -> None:
    """Raise ConfigError where captioners cannot speak together."""
    first = captioners[0]
    for other in captioners[1:]:
        if other.info.header.tokenizer != first.info.header.tokenizer:
            hint = "train them on the same captions with the same data.min_word_count"
            raise ConfigError(f"{first.name} and {other.name} have different vocabularies", hint)


def write_captions(
    model: Captioner, tokenizer: Tokenizer, batches: Iterator[Tensor], settings: Decoding, compute: Compute
) -> list[str]:
    """The best caption of each image; ``batches`` of features (images, ...); ``compute`` is resolved."""
    special_tokens: SpecialTokens = tokenizer.special_tokens
    sentences: list[str] = []
    with torch.inference_mode(), compute.autocast():
        for batch in batches:
            for n_best in decode(model, batch.to(compute.device), special_tokens, settings):
                sentences.append(tokenizer.decode(n_best[0].tokens))
    return sentences


def _caption(hypothesis: Hypothesis, tokenizer: Tokenizer) -> Caption:
    words = [tokenizer.decode([token]) for token in hypothesis.tokens]
    return Caption(tokenizer.decode(hypothesis.tokens), hypothesis.score, words, hypothesis.attention)
