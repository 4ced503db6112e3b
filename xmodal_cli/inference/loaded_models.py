"""Loaded models for use from Python: ``load`` returns a ``MatcherModel``, ``CaptionerModel`` or ``TaggerModel``.

The network and the image backbone of a model stay loaded between calls. Images are paths or PIL images.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.argument_types import check_arguments
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.inference.image_inputs import ImageInput, InputVectors
from xmodal_cli.inference.models import ModelInfo, describe_model
from xmodal_cli.reporter import SILENT
from xmodal_cli.result_json import OPTIONAL
from xmodal_cli.types import ImageBackbone, Unreadable

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.caption_types import CaptionGenerator
    from xmodal_cli.inference.captioners import LoadedCaptioner
    from xmodal_cli.inference.exported_matcher import ExportedMatcher
    from xmodal_cli.inference.image_captioning import FeatureExtractors
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import LoadedModel
    from xmodal_cli.inference.taggers import LoadedTagger

PathLike = str | os.PathLike[str]
ON_ERROR = ("raise", "skip")


def load(
    name: PathLike, *, device: str = "auto", precision: str = "auto", runtime: str = "auto"
) -> MatcherModel | CaptionerModel | TaggerModel:
    """Load a matcher, captioner or tagger: a bundled or trained model, a run, a file, or ``open_clip/ARCH/TAG``.

    ``runtime`` is ``onnx``, which loads in less than a second, or ``torch``; ``auto`` is ``torch`` if it is installed.
    Raises UnknownName with the closest name, MissingData, BadModel, DownloadError, ConfigError, and Unavailable for a
    model that needs torch if it is not installed.
    """
    check_arguments(load, locals())
    info, compute = describe_model(str(name)), Compute(device, precision, runtime)
    if _uses_onnx(compute):
        return _load_exported(info)
    if info.kind == "captioner":
        from xmodal_cli.inference.captioners import load_captioner

        return CaptionerModel(load_captioner(info, compute))
    if info.kind == "tagger":
        from xmodal_cli.inference.taggers import load_tagger

        return TaggerModel(load_tagger(info, compute))
    from xmodal_cli.inference.matchers import load_matcher

    return MatcherModel(load_matcher(info, compute))


def _uses_onnx(compute: Compute) -> bool:
    """Whether a model that is loaded for any number of images runs on onnxruntime. Raises like ``choose_runtime``."""
    from xmodal_cli.inference.runtime import choose_runtime, has_torch

    prefers_torch = compute.runtime == "auto" and has_torch()
    return not prefers_torch and choose_runtime(compute, 1) == "onnx"


def _load_exported(info: ModelInfo) -> MatcherModel | CaptionerModel | TaggerModel:
    if info.kind == "captioner":
        from xmodal_cli.inference.caption_runtime import load_exported_captioner

        return CaptionerModel(load_exported_captioner(info, SILENT))
    if info.kind == "tagger":
        from xmodal_cli.inference.tagger_runtime import load_exported_tagger

        return TaggerModel(load_exported_tagger(info, SILENT))
    from xmodal_cli.inference.exported_matcher import ExportedMatcher
    from xmodal_cli.inference.image_encoders import ON_CPU

    return MatcherModel(ExportedMatcher(info, ON_CPU, SILENT))


class _Model:
    _loaded: LoadedModel

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @property
    def name(self) -> str:
        """The name of the run or of the file."""
        return self._loaded.name

    @property
    def info(self) -> ModelInfo:
        """The header of the model file: architecture, backbone, training settings, metrics."""
        return self._loaded.info


class MatcherModel(_Model):
    """An image-text matcher: encodes images and sentences as vectors of one space."""

    _loaded: LoadedMatcher | ExportedMatcher

    @property
    def embed_dim(self) -> int:
        """The dimension of its vectors."""
        return self._loaded.info.embed_dim

    def encode_text(self, sentences: str | Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32. One string counts as one sentence."""
        check_arguments(MatcherModel.encode_text, locals())
        return self._loaded.embed_texts([sentences] if isinstance(sentences, str) else list(sentences))

    def encode_image(self, images: ImageInput | Iterable[ImageInput], *, on_error: str = "raise") -> np.ndarray:
        """(images, embed_dim) float32 of paths or PIL images, in their order.

        ``on_error="skip"`` skips unreadable images, so that there are fewer rows, with a warning for each;
        ``"raise"`` raises BadData. Damaged images that can be used give a warning. Raises IncompatibleFeatures if the
        backbone that the model was trained with is unavailable, ConfigError for another ``on_error``.
        """
        check_arguments(MatcherModel.encode_image, locals())
        import numpy as np

        from xmodal_cli.data.images import ImageReader
        from xmodal_cli.inference.encoding import file_vectors

        reader, loaded = ImageReader(), self._loaded
        vectors = file_vectors(self._backbone, loaded.embed_features, loaded.compute, _as_list(images), reader)
        rows = [vector for _, vector in _readable(vectors, on_error)]
        for defect in dict.fromkeys(reader.defects):
            warnings.warn(f"{defect.path}: {defect.reason}", stacklevel=2)
        return np.stack(rows) if rows else np.zeros((0, self.embed_dim), np.float32)

    def similarity(self, image_vectors: np.ndarray, text_vectors: np.ndarray) -> np.ndarray:
        """(images, embed_dim), (texts, embed_dim) -> (images, texts) float32; higher is more similar."""
        check_arguments(MatcherModel.similarity, locals())
        from xmodal_cli.retrieval.ranks import score_matrix

        return score_matrix(image_vectors, text_vectors, self._loaded.info.similarity)

    @cached_property
    def _backbone(self) -> ImageBackbone:
        from xmodal_cli.inference.encoding import open_backbone

        _warn_if_unchecked(self._loaded)
        return open_backbone(self._loaded)


@dataclass(frozen=True)
class ScoredCaption:
    """A caption and its score: the log-probability divided by a power of the length, higher is better.

    With ``decoding.rerank``, the weighted similarity to the image is added.
    """

    text: str
    score: float


@dataclass(frozen=True)
class ImageCaptions:
    """The captions of an image, best first; or the ``error`` for which it has none, its ``hint`` and ``category``.

    ``defects`` are the reasons why the image is damaged, although it was captioned.

    ``path`` is ``<image N>`` for a PIL image at index N; ``tags`` are those that conditioned the captions, if any.
    ``notes`` are warnings, such as a caption file that already exists. Scores of one model can be compared.
    """

    path: str
    captions: tuple[ScoredCaption, ...] = field(default=(), metadata=OPTIONAL)
    tags: tuple[str, ...] = field(default=(), metadata=OPTIONAL)
    error: str | None = field(default=None, metadata=OPTIONAL)
    hint: str | None = field(default=None, metadata=OPTIONAL)
    category: str | None = field(default=None, metadata=OPTIONAL)
    defects: tuple[str, ...] = field(default=(), metadata=OPTIONAL)
    notes: tuple[str, ...] = field(default=(), metadata=OPTIONAL)

    @property
    def text(self) -> str:
        """The best caption; empty if there is none."""
        return self.captions[0].text if self.captions else ""


class CaptionerModel(_Model):
    """An image captioner."""

    _loaded: LoadedCaptioner

    def caption(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        beam: int | None = None,
        num: int = 1,
        sample: bool = False,
        tags: str | Sequence[str] = (),
        decoding: Mapping[str, Any] | None = None,
        on_error: str = "raise",
    ) -> list[ImageCaptions]:
        """Captions of paths or PIL images, in their order: ``num`` each, best first.

        ``beam`` is the beam size, 1 for greedy, by default the one that the model was trained with; ``decoding`` sets
        other fields, such as ``{"length_penalty": 0.7}``. ``tags`` are words, or ``"auto"``, ``"auto:TAGGER"`` or
        ``"none"``; by default as in training. ``on_error="skip"`` skips unreadable images with a
        warning for each. Raises BadData for an unreadable image, ConfigError for invalid settings.
        """
        check_arguments(CaptionerModel.caption, locals())
        from xmodal_cli.inference.caption_types import CaptionRequest, decoding_settings
        from xmodal_cli.inference.image_captioning import captioner_generator

        options = {"num": num, "sample": sample, **({} if beam is None else {"beam": beam}), **(decoding or {})}
        settings = tuple(decoding_settings(options))
        words = (tags,) if isinstance(tags, str) else tuple(tags)
        generator = captioner_generator(
            [self._loaded],
            self._extractors,
            CaptionRequest(settings=settings, tags=words, compute=self._loaded.compute),
        )
        return image_captions(generator, images, on_error)

    @cached_property
    def _extractors(self) -> FeatureExtractors:
        from xmodal_cli.inference.image_captioning import FeatureExtractors

        return FeatureExtractors([self._loaded])


@dataclass(frozen=True)
class ScoredTag:
    """A tag and its probability."""

    tag: str
    score: float


@dataclass(frozen=True)
class ImageTags:
    """The tags of an image, most probable first; ``path`` is ``<image N>`` for a PIL image at index N."""

    path: str
    tags: tuple[ScoredTag, ...]


class TaggerModel(_Model):
    """A multi-label model that predicts words for images."""

    _loaded: LoadedTagger

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags that it knows, most frequent in training first."""
        return self._loaded.tags

    def tag(
        self, images: ImageInput | Iterable[ImageInput], *, num: int = 5, on_error: str = "raise"
    ) -> list[ImageTags]:
        """The ``num`` most probable tags of paths or PIL images, in their order.

        Raises BadData for an unreadable image; ``on_error="skip"`` skips it with a warning. Raises ConfigError for a
        ``num`` below 1.
        """
        check_arguments(TaggerModel.tag, locals())
        from xmodal_cli.inference.taggers import best_tags

        if num < 1:
            raise ConfigError(f"num must be at least 1, not {num}", "the default is 5")
        results = []
        for path, probabilities in _readable(self._probabilities(_as_list(images)), on_error):
            (best,) = best_tags(self.tags, probabilities[None], num)
            results.append(ImageTags(str(path), tuple(ScoredTag(tag, score) for tag, score in best)))
        return results

    @cached_property
    def _probabilities(self) -> InputVectors:
        from xmodal_cli.inference.taggers import image_probabilities

        _warn_if_unchecked(self._loaded)
        return image_probabilities(self._loaded)


def image_captions(
    generator: CaptionGenerator, images: ImageInput | Iterable[ImageInput], on_error: str
) -> list[ImageCaptions]:
    """The captions of all readable images. Raises BadData for others, or warns; ConfigError for ``on_error``."""
    for text in generator.warnings:
        warnings.warn(text, stacklevel=3)
    return [
        ImageCaptions(str(path), tuple(ScoredCaption(c.text, c.score) for c in captions))
        for path, captions in _readable(generator.captions(_as_list(images)), on_error)
    ]


def _warn_if_unchecked(loaded: LoadedMatcher | ExportedMatcher | LoadedTagger) -> None:
    """Warn before the first image, if the declared features of a model were not checked."""
    from xmodal_cli.inference.unchecked_features import unchecked_warnings

    for text in unchecked_warnings([loaded.info]):
        warnings.warn(text, stacklevel=4)


def _as_list(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    single = isinstance(images, str | os.PathLike) or hasattr(images, "getexif")
    return [images] if single else list(images)  # type: ignore[list-item, arg-type]


def _readable(results: Iterable[tuple[Path, Any]], on_error: str) -> Iterator[tuple[Path, Any]]:
    """The results of readable images. Raises BadData for others, or warns; ConfigError for another ``on_error``."""
    if on_error not in ON_ERROR:
        raise ConfigError(f"on_error must be 'raise' or 'skip', not {on_error!r}", "use on_error='skip'")
    for path, result in results:
        if not isinstance(result, Unreadable):
            yield path, result
            continue
        problem = result.reason if str(path) in result.reason else f"{path}: {result.reason}"
        if on_error == "raise":
            raise BadData(problem, "use on_error='skip' to skip it")
        warnings.warn(f"skipped: {problem}", stacklevel=3)
