"""Images to captions: with one captioner, an ensemble, or a Hugging Face model.

Images are read in threads in parallel with the forward pass, once per backbone of the captioners, and captioned in
batches; a few batches are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.captioning.tags import tag_prompt
from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.extraction import default_batch_size, encode_files, opener_for
from xmodal_cli.inference.caption_checks import (
    NO_MAPS,
    HuggingFaceRequest,
    check_attended,
    check_captioners,
    check_request,
)
from xmodal_cli.inference.caption_runtime import load_captioners
from xmodal_cli.inference.caption_types import (
    Caption,
    CaptionGenerator,
    CaptionRequest,
    CaptionResults,
)
from xmodal_cli.inference.captioners import LoadedCaptioner, caption_features
from xmodal_cli.inference.encoding import open_backbone
from xmodal_cli.inference.image_inputs import ImageInput, image_inputs
from xmodal_cli.inference.models import LoadedModel
from xmodal_cli.inference.reranking import Reranker, load_reranker
from xmodal_cli.inference.tag_requests import TagSource, find_tag_source
from xmodal_cli.inference.unchecked_features import unchecked_warnings
from xmodal_cli.regions import region_corners
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import Decoding, ImageBackbone, Unreadable


def load_generator(
    request: CaptionRequest, reader: ImageReader | None = None, num_images: int = 1, reporter: Reporter = SILENT
) -> CaptionGenerator:
    """Load the requested models, or the default captioner, for about ``num_images`` images.

    ``reader`` collects the defects of readable images. Raises MissingData, UnknownName, BadModel, ConfigError,
    IncompatibleFeatures, Unavailable.
    """
    if request.compute.engine == "ray":
        from xmodal_cli.inference.ray_captioning import generator_on_ray

        return generator_on_ray(load_generator, request, reader or ImageReader(), num_images, reporter)
    checked = check_request(request)
    if isinstance(checked, HuggingFaceRequest):
        from xmodal_cli.inference import hf_captioner

        loaded_hf = hf_captioner.load(checked.name, request.compute)
        settings = checked.decoding

        def captions_by_hf(images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
            return loaded_hf.caption_images(images, settings, reader, first)

        return CaptionGenerator(checked.name, captions_by_hf)
    loaded = load_captioners(checked, request, num_images, reporter)
    return captioner_generator(loaded, None, request, reader)


def captioner_generator(
    loaded: Sequence[LoadedCaptioner],
    extractors: FeatureExtractors | None,
    request: CaptionRequest,
    reader: ImageReader | None = None,
) -> CaptionGenerator:
    """A generator of loaded captioners, several as an ensemble; ``extractors`` are built unless they exist already.

    Raises ConfigError for invalid settings, out-of-vocabulary tags and different vocabularies, and the errors of
    ``find_tag_source`` and ``load_reranker``.
    """
    settings = check_captioners([one.info for one in loaded], request.settings, request.tags, request.compute)
    source = find_tag_source(request.tags, loaded[0], request.compute)
    settings, reranker = load_reranker(settings, loaded[0].compute)
    tagger = () if source.tagger is None else (source.tagger,)
    matcher = () if reranker is None else (reranker.matcher,)
    if extractors is None or tagger or matcher:
        extractors = FeatureExtractors([*loaded, *tagger, *matcher], reader)
    generator = _BatchCaptioner(loaded, extractors, settings, source, reranker, request.attention is not None)
    if request.attention is not None:
        check_attended([one.info for one in loaded])
        _check_attention(loaded, generator)
    name = " + ".join(one.name for one in loaded)
    warnings = unchecked_warnings(one.info for one in (*loaded, *tagger, *matcher))
    return CaptionGenerator(name, generator, loaded[0].meta.crops, warnings, loaded[0].compute.runtime)


class FeatureExtractors:
    """The image backbones of captioners, a tagger and a matcher; a shared backbone is built once."""

    def __init__(self, models: Sequence[LoadedModel], reader: ImageReader | None = None) -> None:
        self._reader = reader
        self._keys = [one.meta.key() for one in models]
        self._backbones: dict[tuple[Any, ...], ImageBackbone] = {}
        for one in models:
            if one.meta.key() not in self._backbones:
                self._backbones[one.meta.key()] = open_backbone(one)
        self._compute = models[0].compute

    def extract(self, images: Sequence[ImageInput]) -> Iterator[tuple[Path, list[np.ndarray] | Unreadable]]:
        """In order: (path, one array per model or Unreadable)."""
        streams = []
        for backbone in self._backbones.values():
            paths, opener = image_inputs(images, opener_for(backbone, self._reader))
            streams.append(encode_files(paths, backbone, opener, self._compute))
        for results in zip(*streams, strict=True):
            path = results[0][0]
            by_key: dict[tuple[Any, ...], np.ndarray] = {}
            unreadable: Unreadable | None = None
            for key, (_, features) in zip(self._backbones, results, strict=True):
                if isinstance(features, Unreadable):
                    unreadable = features
                else:
                    by_key[key] = features
            yield path, unreadable or [by_key[key] for key in self._keys]

    def dummy_features(self) -> list[np.ndarray]:
        """The features of a gray image, (1, ...) per model."""
        from PIL import Image

        def features(backbone: ImageBackbone) -> np.ndarray:
            ((_, encoded),) = encode_files([Path()], backbone, lambda _: gray, self._compute)
            assert not isinstance(encoded, Unreadable)
            return encoded[None]

        gray = Image.new("RGB", (64, 64), "gray")
        by_key = {key: features(backbone) for key, backbone in self._backbones.items()}
        return [by_key[key] for key in self._keys]


@dataclass(frozen=True)
class _BatchCaptioner:
    """Images to captions, in batches."""

    loaded: Sequence[LoadedCaptioner]
    extractors: FeatureExtractors
    settings: Decoding
    source: TagSource
    reranker: Reranker | None = None
    attention: bool = False

    def __call__(self, images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        size = default_batch_size(self.loaded[0].compute.device)
        extracted = self.extractors.extract(images)
        while chunk := list(islice(extracted, size)):
            captions = iter(self._captions([features for _, features in chunk], first))
            first += len(chunk)
            for path, features in chunk:
                yield path, features if isinstance(features, Unreadable) else next(captions)

    def _captions(self, extracted: list[list[np.ndarray] | Unreadable], first: int) -> list[list[Caption]]:
        """The captions of readable images: at once, or, if samples depend on their index, of consecutive images."""
        parts: list[tuple[int, list[list[np.ndarray]]]] = []
        end = None
        for index, features in enumerate(extracted, first):
            if isinstance(features, Unreadable):
                continue
            if end is None or (self.settings.sample and end != index):
                parts.append((index, []))
            parts[-1][1].append(features)
            end = index + 1
        stacked = ((start, [np.stack(rows) for rows in zip(*images, strict=True)]) for start, images in parts)
        return [captions for start, features in stacked for captions in self.generate(features, start)]

    def generate(self, features: Sequence[np.ndarray], first: int = 0) -> list[list[Caption]]:
        """(images, ...) per captioner, for the tagger and for the matcher -> the captions of each image.

        ``first`` is the index of the first image.
        """
        of_tagger = features[-1] if self.reranker is None else features[-2]
        tags = self.source.tags(self.loaded[0], of_tagger, len(features[0]))
        prompts = [tag_prompt(self.loaded[0].tokenizer, words) for words in tags]
        inputs = features[: len(self.loaded)]
        captions = caption_features(self.loaded, inputs, self.settings, prompts, self.attention, first)
        if self.reranker is not None:
            captions = self.reranker.rerank(captions, self.reranker.matcher.embed_features(features[-1]))
        has_boxes = self.attention and self.loaded[0].meta.kind == "regions"
        boxes: Sequence[np.ndarray | None] = list(region_corners(features[0])) if has_boxes else [None] * len(captions)
        return [
            [replace(caption, tags=tuple(words), boxes=corners) for caption in n_best]
            for words, corners, n_best in zip(tags, boxes, captions, strict=True)
        ]


def _check_attention(loaded: Sequence[LoadedCaptioner], generator: _BatchCaptioner) -> None:
    """Raise ConfigError if there will be no attention maps; a gray image is captioned to check."""
    from xmodal_cli.captioning.attention_maps import is_square

    (captions,) = generator.generate(generator.extractors.dummy_features())
    attention = captions[0].attention
    has_regions = all(one.meta.kind == "regions" for one in loaded)
    if attention is None or not (has_regions or is_square(attention.shape[1], loaded[0].meta.crops)):
        raise ConfigError(
            f"{' + '.join(one.name for one in loaded)} does not return attention over a square grid or regions, so it "
            "has no attention maps",
            NO_MAPS,
        )
