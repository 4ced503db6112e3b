"""Trained captioners: loading them, and generating captions from image features, alone or as an ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from xmodal_cli import starter
from xmodal_cli.batch_size import BatchSize
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.decoding_memory import check_decoding_memory, images_at_once
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.caption_types import Caption
from xmodal_cli.inference.models import LoadedModel, ModelInfo, describe_as
from xmodal_cli.inference.runtime import has_torch
from xmodal_cli.inference.weights import build_network, load_weights, read_tokenizer
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.types import Captioner, Decoding, Hypothesis

if TYPE_CHECKING:
    from torch import Tensor


BATCH = 64  # images decoded at once


@dataclass(frozen=True)
class LoadedCaptioner(LoadedModel):
    """A captioner in evaluation mode, on the device of ``compute``, which is resolved.

    ``model`` is an nn.Module, or an ``OnnxCaptioner`` if ``compute.runtime`` is ``onnx``.
    """

    model: Captioner
    tokenizer: Tokenizer
    batch_size: BatchSize = field(default_factory=lambda: BatchSize(BATCH, "images"), compare=False)

    @property
    def decoding(self) -> Decoding:
        """The default decoding settings: those of its training."""
        return self.info.config.decoding


def load_captioner(what: str | ModelInfo, compute: Compute = Compute()) -> LoadedCaptioner:
    """Load a captioner with its weights, by name or by the result of ``describe_model``.

    Raises MissingData, BadModel, UnknownName, DownloadError, ConfigError.
    """
    info = describe_as("captioner", what, "`xmodal models list` shows the captioners; --nearest takes a matcher")
    from xmodal_cli.inference.towers import load_towers
    from xmodal_cli.models.assembly import build_captioner

    starter.check(info.path)
    architecture = info.header.architecture
    towers = load_towers(info.name, architecture)
    has_towers = bool(towers) or "language_model" in architecture["args"]
    model = build_network(info, lambda: build_captioner(architecture, towers), has_towers)
    load_weights(model, info)
    compute, tokenizer = compute.resolve(), read_tokenizer(info)
    return LoadedCaptioner(info, compute, cast("Captioner", model.eval().to(compute.device)), tokenizer)


def caption_features(
    captioners: Sequence[LoadedCaptioner],
    features: Sequence[np.ndarray | Tensor],
    settings: Decoding,
    prompts: Sequence[Sequence[int]] = (),
    attention: bool = False,
    first: int = 0,
) -> list[list[Caption]]:
    """``settings.num`` captions per image, best first. ``features`` are (images, ...), one array per captioner.

    ``prompts`` are the tokens after BOS of each image, () for none.
    ``first`` is the index of the first image in the job, which determines its random numbers. Several captioners are an
    ensemble. Raises ConfigError for different vocabularies and invalid settings.
    """
    check_ensemble([loaded.info for loaded in captioners])
    models = [loaded.model for loaded in captioners]
    model: Captioner = models[0] if len(models) == 1 else Ensemble(models)
    results: list[list[Caption]] = []
    architectures = [loaded.info.header.architecture for loaded in captioners]
    compute, tokenizer = captioners[0].compute, captioners[0].tokenizer
    batch_size = captioners[0].batch_size
    most = images_at_once(settings, architectures, batch_size.size, compute.device)

    def generate(parts: list[Any], prompt: np.ndarray, index: int, start: int, end: int) -> list[list[Hypothesis]]:
        batch = tuple(_model_input(part[start:end], compute) for part in parts)
        image_features = batch if len(batch) > 1 else batch[0]
        with _inference_mode(compute):
            return decode(
                model, image_features, tokenizer.special_tokens, settings, prompt[start:end], attention, index + start
            )

    for start, end, prompt in _equal_prompts(prompts, len(features[0]), most):
        parts = [part[start:end] for part in features]
        for hypotheses in batch_size.run(partial(generate, parts, prompt, first + start), end - start):
            results += [[_to_caption(hypothesis, tokenizer) for hypothesis in n_best] for n_best in hypotheses]
    return results


def _model_input(features: np.ndarray | Tensor, compute: Compute) -> Any:
    """Features as an array of the library that runs the captioner, on its device."""
    if compute.runtime == "onnx":
        return np.asarray(features)
    import torch

    return torch.as_tensor(features).to(compute.device)


def _inference_mode(compute: Compute) -> contextlib.AbstractContextManager[object]:
    """torch's inference mode, with autocast unless the precision is fp32."""
    stack = contextlib.ExitStack()
    if compute.runtime != "onnx":
        import torch

        stack.enter_context(torch.inference_mode())
        stack.enter_context(compute.autocast())
    return stack


def _equal_prompts(
    prompts: Sequence[Sequence[int]], num_images: int, size: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Runs of at most ``size`` images whose prompts have the same length: start, end, (images, length) int64."""
    lengths = [len(prompt) for prompt in prompts] or [0] * num_images
    start = 0
    while start < num_images:
        end = start + 1
        while end < min(num_images, start + size) and lengths[end] == lengths[start]:
            end += 1
        rows = prompts[start:end] or [()] * (end - start)
        yield start, end, np.array(rows, np.int64).reshape(end - start, lengths[start])
        start = end


def check_decoding_of(captioners: Sequence[ModelInfo], settings: Decoding, compute: Compute) -> None:
    """Raise ConfigError if captions cannot be generated with ``settings`` in the available memory."""
    architectures = [info.header.architecture for info in captioners]
    try:
        check_decoding_memory(settings, architectures, compute.device)
    except ConfigError:
        if compute.device != "auto" or not has_torch():
            raise
        check_decoding_memory(settings, architectures, compute.resolve().device)  # that of a GPU is not checked


def check_ensemble(captioners: Sequence[ModelInfo]) -> None:
    """Raise ConfigError if the captioners have different vocabularies."""
    first = captioners[0]
    for other in captioners[1:]:
        if other.header.tokenizer != first.header.tokenizer:
            hint = "train them on the same captions with the same data.min_word_count"
            raise ConfigError(f"{first.name} and {other.name} have different vocabularies", hint)


def write_captions(
    model: Captioner,
    tokenizer: Tokenizer,
    batches: Iterator[Tensor],
    settings: Decoding,
    compute: Compute,
    prompts: Sequence[Sequence[int]] = (),
) -> list[str]:
    """The best caption of each image, from ``batches`` of features (images, ...); ``compute`` is resolved.

    ``prompts`` are the tokens after BOS of each image, () for none.
    """
    captions: list[str] = []
    size = BatchSize(BATCH, "images")

    def generate(part: Tensor, prompt: np.ndarray, start: int, end: int) -> list[list[Hypothesis]]:
        rows = part[start:end].to(compute.device)
        return decode(model, rows, tokenizer.special_tokens, settings, prompt[start:end])

    with _inference_mode(compute):
        for batch in batches:
            given = prompts[len(captions) : len(captions) + len(batch)]
            for start, end, prompt in _equal_prompts(given, len(batch), size.size):
                for part in size.run(partial(generate, batch[start:end], prompt), end - start):
                    captions += [tokenizer.decode(n_best[0].tokens) for n_best in part]
    return captions


def _to_caption(hypothesis: Hypothesis, tokenizer: Tokenizer) -> Caption:
    words = [tokenizer.decode([token]) for token in hypothesis.tokens]
    return Caption(tokenizer.decode(hypothesis.tokens), hypothesis.score, words, hypothesis.attention)
