"""Trained captioners: loaded, asked for captions, evaluated. Several of one vocabulary speak as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xmodal_cli import starter
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.config import from_dict
from xmodal_cli.device import autocast, pick_device, pick_dtype
from xmodal_cli.errors import BadModel, ConfigError
from xmodal_cli.inference.captions import Caption
from xmodal_cli.inference.models import ModelSummary, describe_model
from xmodal_cli.inference.towers import load_towers
from xmodal_cli.models.assembly import build_captioner
from xmodal_cli.models.model_file import read_tensors
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.models.towers import load_trainable_state_dict
from xmodal_cli.types import Captioner, Decoding, FeatureMeta, Hypothesis, SpecialTokens

if TYPE_CHECKING:
    from collections.abc import Iterator


BATCH = 64  # images decoded at once


@dataclass(frozen=True)
class LoadedCaptioner:
    """A captioner ready for use, on ``device``, computing in ``dtype``."""

    summary: ModelSummary
    model: Any  # an nn.Module that is a types.Captioner
    tokenizer: Tokenizer
    device: str
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """The run's or the file's name."""
        return self.summary.name

    @property
    def meta(self) -> FeatureMeta:
        """The image features it reads."""
        return self.summary.meta

    @property
    def decoding(self) -> Decoding:
        """How it writes captions unless told otherwise: as the settings of its training say."""
        return from_dict(self.summary.header.training).decoding


def load_captioner(what: str, device: str = "auto", precision: str = "auto") -> LoadedCaptioner:
    """A captioner with its weights, in evaluation mode. Raises MissingData, BadModel, UnknownName."""
    summary = describe_model(what)
    if summary.kind != "captioner":
        hint = "`xmodal models list` shows the captioners; --nearest takes a matcher"
        raise BadModel(f"{what} is a {summary.kind}, not a captioner", hint)
    starter.check(summary.path)
    architecture = summary.header.architecture
    model = build_captioner(architecture, load_towers(summary.name, architecture))
    try:
        load_trainable_state_dict(model, read_tensors(summary.path))
    except RuntimeError as error:
        raise BadModel(f"{summary.path} does not hold the weights its header promises", str(error)[:200]) from error
    place = pick_device(device)
    tokenizer = Tokenizer.from_json(summary.header.tokenizer)
    return LoadedCaptioner(summary, model.eval().to(place), tokenizer, place, pick_dtype(precision, place))


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
    model = speaker.model if len(captioners) == 1 else Ensemble([loaded.model for loaded in captioners])
    answers: list[list[Caption]] = []
    for start in range(0, len(features[0]), BATCH):
        batch = tuple(part[start : start + BATCH].to(speaker.device) for part in features)
        whole = batch if len(batch) > 1 else batch[0]
        with torch.inference_mode(), autocast(speaker.device, speaker.dtype):
            special_tokens = speaker.tokenizer.special_tokens
            found = decode(model, whole, special_tokens, settings, prompt, attention, first + start)
        answers += [[_caption(hypothesis, speaker.tokenizer) for hypothesis in n_best] for n_best in found]
    return answers


def check_ensemble(captioners: Sequence[LoadedCaptioner]) -> None:
    """Raise ConfigError where captioners cannot speak together."""
    first = captioners[0]
    for other in captioners[1:]:
        if other.summary.header.tokenizer != first.summary.header.tokenizer:
            hint = "train them on the same captions with the same data.min_word_count"
            raise ConfigError(f"{first.name} and {other.name} have different vocabularies", hint)


def write_captions(
    model: Captioner, tokenizer: Tokenizer, batches: Iterator[Tensor], settings: Decoding, how: tuple[str, torch.dtype]
) -> list[str]:
    """The best caption of each image; ``batches`` of features (images, ...), ``how``: device and number format."""
    special_tokens: SpecialTokens = tokenizer.special_tokens
    sentences: list[str] = []
    with torch.inference_mode(), autocast(*how):
        for batch in batches:
            for n_best in decode(model, batch.to(how[0]), special_tokens, settings):
                sentences.append(tokenizer.decode(n_best[0].tokens))
    return sentences


def _caption(hypothesis: Hypothesis, tokenizer: Tokenizer) -> Caption:
    words = [tokenizer.decode([token]) for token in hypothesis.tokens]
    return Caption(tokenizer.decode(hypothesis.tokens), hypothesis.score, words, hypothesis.attention)
