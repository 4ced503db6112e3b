"""Captions of the training set of a matcher for photos, without a captioner.

All captions of the training set are scored against a photo, as in ``retrieve_captions`` of Kiros et al.'s VSE project.
Optionally only the captions of the nearest training images are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np

from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import ConfigError
from xmodal_cli.inference.caption_types import (
    Caption,
    CaptionGenerator,
    CaptionRequest,
    CaptionResults,
    override_decoding,
)
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.encoding import image_vectors
from xmodal_cli.inference.exported_matcher import ExportedMatcher, open_matcher
from xmodal_cli.inference.image_inputs import ImageInput, InputVectors
from xmodal_cli.inference.matchers import LoadedMatcher
from xmodal_cli.inference.models import ModelInfo, describe_as
from xmodal_cli.inference.training_vectors import caption_vectors, load_training_set, training_image_vectors
from xmodal_cli.inference.unchecked_features import unchecked_warnings
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.ranks import exact_scores
from xmodal_cli.retrieval.top_k import Vectors, top_texts
from xmodal_cli.types import Decoding, Example, Unreadable
from xmodal_cli.unit_vectors import unit_vectors

_BATCH = 64  # photos


def nearest_generator(
    request: CaptionRequest, reader: ImageReader, num_photos: int, reporter: Reporter
) -> CaptionGenerator:
    """A generator for about ``num_photos``, of the requested matcher, or the default one, and its training captions.

    ``request.nearest_images`` restricts them to those of the nearest training images. Raises MissingData, UnknownName,
    BadModel, ConfigError, IncompatibleFeatures.
    """
    if request.compute.engine == "ray":
        from xmodal_cli.inference.ray_captioning import generator_on_ray

        return generator_on_ray(nearest_generator, request, reader, num_photos, reporter)
    info, num = check_nearest(request)
    loaded = open_matcher(info, request.compute, num_photos, reporter)
    train = load_training_set(loaded, reporter)
    retriever: _CaptionRetriever
    if request.nearest_images is None:
        captions, vectors = caption_vectors(loaded, train, reporter)
        retriever, source = _AllCaptions(captions, vectors, loaded.info.similarity, num), f"{len(captions):,} captions"
    else:
        examples, vectors = training_image_vectors(loaded, train, reporter)
        retriever = _NearestImages(loaded, examples, unit_vectors(vectors), request.nearest_images, num)
        source = f"the captions of the nearest {request.nearest_images} of {len(examples):,} images"
    captioner, warnings = _NearestCaptioner(retriever, image_vectors(loaded, reader)), unchecked_warnings([loaded.info])
    name = f"{loaded.name}, from {source} of {train.name}"
    return CaptionGenerator(name, captioner, warnings=warnings, runtime=loaded.compute.runtime)


def check_nearest(request: CaptionRequest) -> tuple[ModelInfo, int]:
    """The matcher of ``request`` and the number of captions per photo. No model is loaded.

    Raises MissingData, UnknownName, BadModel, ConfigError.
    """
    request.compute.check()
    if len(request.models) > 1:
        raise ConfigError("--nearest accepts exactly one matcher", "use one --model")
    name = request.models[0] if request.models else default_model("matcher")
    info = describe_as("matcher", name, "`xmodal models list` shows the matchers")
    return info, override_decoding(Decoding(), request.settings).num


class _CaptionRetriever(Protocol):
    def retrieve(self, photos: np.ndarray) -> Iterator[list[Caption]]:
        """(photos, embed_dim) -> the best captions of each photo, best first."""
        ...


@dataclass(frozen=True)
class _AllCaptions:
    """The exact top ``num`` of ``captions``, whose vectors are (captions, embed_dim)."""

    captions: Sequence[str]
    vectors: np.ndarray
    similarity: str
    num: int

    def retrieve(self, photos: np.ndarray) -> Iterator[list[Caption]]:
        """Captions with equal scores are in the order of the dataset."""
        best = top_texts(Vectors(photos, self.vectors, self.similarity), self.num, lambda _, text: text)
        for photo, rows in enumerate(best):
            scores = exact_scores(photos, self.vectors, np.full(len(rows), photo), rows, self.similarity)
            yield [_caption(self.captions[row], score) for row, score in zip(rows, scores, strict=True)]


@dataclass(frozen=True)
class _NearestImages:
    """The best ``num`` of the captions of the ``num_images`` nearest images ``train``, whose unit vectors are given."""

    loaded: LoadedMatcher | ExportedMatcher
    train: Sequence[Example]
    vectors: np.ndarray
    num_images: int
    num: int

    def retrieve(self, photos: np.ndarray) -> Iterator[list[Caption]]:
        """Images are compared by cosine also for order similarity, which is not symmetric."""
        similarities = unit_vectors(photos) @ self.vectors.T
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, : self.num_images]
        for photo, rows in enumerate(nearest):
            captions = list(dict.fromkeys(caption for row in rows for caption in self.train[row].captions))
            vectors, similarity = self.loaded.embed_texts(captions), self.loaded.info.similarity
            yield from _AllCaptions(captions, vectors, similarity, self.num).retrieve(photos[photo : photo + 1])


def _caption(text: str, score: float) -> Caption:
    return Caption(text, float(score), text.split(), None)


@dataclass(frozen=True)
class _NearestCaptioner:
    """Images to captions, in batches."""

    retriever: _CaptionRetriever
    embed: InputVectors

    def __call__(self, images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        encoded = self.embed(images)
        while chunk := list(islice(encoded, _BATCH)):
            readable = [vector for _, vector in chunk if not isinstance(vector, Unreadable)]
            captions = self.retriever.retrieve(np.stack(readable)) if readable else iter(())
            for path, vector in chunk:
                yield path, vector if isinstance(vector, Unreadable) else next(captions)
