"""Trained captioners: loaded, asked for captions, evaluated. Several of one vocabulary speak as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xmodal_cli import starter
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.config import from_dict
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.errors import BadModel, ConfigError
from xmodal_cli.models._towers import load_own_tensors
from xmodal_cli.models.storage.modelfile import read_tensors
from xmodal_cli.models.storage.tokenizer import Tokenizer
from xmodal_cli.recipes.assembly import build_captioner
from xmodal_cli.recipes.caption_scores import score_captions
from xmodal_cli.recipes.device import pick_device, pick_dtype
from xmodal_cli.recipes.models import ModelSummary, describe_model
from xmodal_cli.recipes.splits import captioned, read_pictures
from xmodal_cli.recipes.towers import load_towers, what_is_read
from xmodal_cli.training.loop import autocast
from xmodal_cli.types import Captioner, Decoding, FeatureMeta, Hypothesis, Marks, Reporter

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


@dataclass(frozen=True)
class Caption:
    """A sentence, its score, its words, and where asked for what each looked at, (words, cells)."""

    text: str
    score: float
    words: list[str]
    attention: Tensor | None = None


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
        load_own_tensors(model, read_tensors(summary.path))
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
            marks = speaker.tokenizer.marks
            found = decode(model, whole, marks, settings, prompt, attention, first + start)
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
    marks: Marks = tokenizer.marks
    sentences: list[str] = []
    with torch.inference_mode(), autocast(*how):
        for batch in batches:
            for n_best in decode(model, batch.to(how[0]), marks, settings):
                sentences.append(tokenizer.decode(n_best[0].tokens))
    return sentences


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
    from xmodal_cli.types import Silent

    reporter = reporter or Silent()
    captioners = [load_captioner(name, *where) for name in names]
    check_ensemble(captioners)
    settings = replace(captioners[0].decoding, **(decoding or {}))
    dataset = load_dataset(data)
    part = captioned(dataset, split)
    features: dict[Any, Tensor] = {}
    for loaded in captioners:
        if loaded.meta.key() not in features:
            found = read_pictures(part, what_is_read(from_dict(loaded.summary.header.training)), *where, reporter)
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


def _caption(hypothesis: Hypothesis, tokenizer: Tokenizer) -> Caption:
    words = [tokenizer.decode([token]) for token in hypothesis.tokens]
    return Caption(tokenizer.decode(hypothesis.tokens), hypothesis.score, words, hypothesis.attention)
