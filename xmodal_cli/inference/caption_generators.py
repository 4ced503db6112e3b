"""What turns photos into captions: captioners of one vocabulary, alone or as an ensemble, or a Hugging Face model.

Photos are decoded in threads beside the forward pass, each once for every backbone that the captioners read, and
captioned in batches; a few batches are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmodal_cli.errors import ConfigError
from xmodal_cli.features.extraction import default_batch_size, encode_files, opener_for
from xmodal_cli.inference import hf_captioner
from xmodal_cli.inference.captioners import LoadedCaptioner, caption_features, check_ensemble, load_captioner
from xmodal_cli.inference.captions import Answers, Caption, CaptionGenerator, decoding
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.encoding import backbone_of
from xmodal_cli.inference.image_inputs import ImageInput, image_inputs
from xmodal_cli.types import Decoding, ImageBackbone, Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.captions import CaptionRequest


def load_generator(request: CaptionRequest) -> CaptionGenerator:
    """The models asked for, loaded; none is the default captioner.

    Raises MissingData, UnknownName, BadModel, ConfigError, IncompatibleFeatures.
    """
    names = request.models or (default_model("captioner"),)
    if any(hf_captioner.supports(name) for name in names):
        return _hugging_face(names, request)
    loaded = [load_captioner(name, request.compute) for name in names]
    return captioner_generator(loaded, FeatureExtractors(loaded), request)


def captioner_generator(
    loaded: Sequence[LoadedCaptioner], extractors: FeatureExtractors, request: CaptionRequest
) -> CaptionGenerator:
    """Loaded captioners, several as an ensemble. Raises ConfigError for settings, tags, different vocabularies."""
    check_ensemble(loaded)
    settings = decoding(loaded[0].decoding, request.settings)
    generator = _Captioners(
        loaded, extractors, settings, _prompt(loaded[0], request.tags), request.attention is not None
    )
    if request.attention is not None:
        _check_attention(loaded, generator)
    return CaptionGenerator(" + ".join(one.name for one in loaded), generator, loaded[0].meta.crops)


def _hugging_face(names: Sequence[str], request: CaptionRequest) -> CaptionGenerator:
    if len(names) > 1:
        raise ConfigError("a Hugging Face model cannot be part of an ensemble", "give one --model")
    for option, given in (("--tags", request.tags), ("--attention", request.attention)):
        if given:
            raise ConfigError(f"{option} is not for Hugging Face models", f"leave {option} out, or train a captioner")
    loaded = hf_captioner.load(names[0], request.compute)
    settings = decoding(Decoding(), request.settings)
    return CaptionGenerator(names[0], lambda images: loaded.caption_images(images, settings))


def _prompt(loaded: LoadedCaptioner, tags: Sequence[str]) -> tuple[int, ...]:
    """The tokens that captions go on from."""
    if not tags:
        return ()
    from xmodal_cli.captioning.tags import tag_prompt

    return tuple(tag_prompt(loaded.tokenizer, tags))


class FeatureExtractors:
    """The backbones that some captioners read, each once."""

    def __init__(self, captioners: Sequence[LoadedCaptioner]) -> None:
        self._keys = [one.meta.key() for one in captioners]
        self._backbones: dict[tuple[Any, ...], ImageBackbone] = {}
        for one in captioners:
            if one.meta.key() not in self._backbones:
                self._backbones[one.meta.key()] = backbone_of(one.name, one.meta)
        self._compute = captioners[0].compute

    def extract(self, images: Sequence[ImageInput]) -> Iterator[tuple[Path, list[np.ndarray] | Unreadable]]:
        """In order: (path, one array per captioner or Unreadable)."""
        streams = []
        for backbone in self._backbones.values():
            paths, opener = image_inputs(images, opener_for(backbone))
            streams.append(encode_files(paths, backbone, opener, self._compute))
        for seen in zip(*streams, strict=True):
            path = seen[0][0]
            found: dict[tuple[Any, ...], np.ndarray] = {}
            unreadable: Unreadable | None = None
            for key, (_, features) in zip(self._backbones, seen, strict=True):
                if isinstance(features, Unreadable):
                    unreadable = features
                else:
                    found[key] = features
            yield path, unreadable or [found[key] for key in self._keys]

    def dummy_features(self) -> list[np.ndarray]:
        """What the captioners see of a grey picture, (1, ...) each."""
        from PIL import Image

        def features(backbone: ImageBackbone) -> np.ndarray:
            backbone.to(self._compute.device, self._compute.dtype)
            pixels = backbone.preprocess(Image.new("RGB", (64, 64), "grey"))
            encoded: np.ndarray = backbone.encode(pixels).float().cpu().numpy()
            return encoded.reshape(1, -1, encoded.shape[-1]) if encoded.ndim == 3 else encoded[:1]

        found = {key: features(backbone) for key, backbone in self._backbones.items()}
        return [found[key] for key in self._keys]


@dataclass(frozen=True)
class _Captioners:
    """Paths to captions: what ``extractors`` see goes through the captioners in batches."""

    loaded: Sequence[LoadedCaptioner]
    extractors: FeatureExtractors
    settings: Decoding
    prompt: Sequence[int] = ()
    attention: bool = False

    def __call__(self, images: Sequence[ImageInput]) -> Answers:
        size = default_batch_size(self.loaded[0].compute.device)
        seen, num_seen = self.extractors.extract(images), 0
        while chunk := list(islice(seen, size)):
            good = [features for _, features in chunk if not isinstance(features, Unreadable)]
            answers = iter(
                self.generate([np.stack(rows) for rows in zip(*good, strict=True)], num_seen) if good else ()
            )
            num_seen += len(good)
            for path, features in chunk:
                yield path, features if isinstance(features, Unreadable) else next(answers)

    def generate(self, features: Sequence[np.ndarray], first: int = 0) -> list[list[Caption]]:
        """(images, ...) for each captioner -> the captions of each; ``first`` is the first image's place."""
        tensors = [torch.from_numpy(rows) for rows in features]
        return caption_features(self.loaded, tensors, self.settings, self.prompt, self.attention, first)


def _check_attention(loaded: Sequence[LoadedCaptioner], generator: _Captioners) -> None:
    """Raise ConfigError where captions will come without maps: one grey picture is captioned to see."""
    from xmodal_cli.captioning.attention_maps import MAPPED_VIEWS, is_square

    hint = "leave --attention out, or use one trained on grid features: --set features.kind=grid"
    for one in loaded:
        if one.meta.kind == "regions" or one.meta.crops not in MAPPED_VIEWS:
            raise ConfigError(f"{one.name} does not look at the cells of a whole picture, so there are no maps", hint)
    (captions,) = generator.generate(generator.extractors.dummy_features())
    attention, names = captions[0].attention, " + ".join(one.name for one in loaded)
    if attention is None or not is_square(attention.shape[1], loaded[0].meta.crops):
        raise ConfigError(f"{names} cannot tell what it looks at, so there are no attention maps", hint)
