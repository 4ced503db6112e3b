"""Captions of the nearest training images of a matcher, without a captioner.

The vectors of the training images are cached. The captions of the nearest images are ranked by the similarity between
photo and sentence.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.errors import ConfigError, MissingData, StorageError, UnknownName
from xmodal_cli.file_errors import parse_json
from xmodal_cli.inference.caption_types import (
    Caption,
    CaptionGenerator,
    CaptionRequest,
    CaptionResults,
    override_decoding,
)
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.encoding import embed_images, image_vectors
from xmodal_cli.inference.image_inputs import ImageInput, InputVectors
from xmodal_cli.inference.matchers import LoadedMatcher, load_matcher
from xmodal_cli.paths import atomic_path, cache_dir
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Decoding, Example, ImageTextDataset, Unreadable
from xmodal_cli.unit_vectors import unit_vectors

NUM_NEIGHBORS = 10  # images whose captions are candidates; at least the number of captions
_BATCH = 64  # photos


def nearest_generator(request: CaptionRequest, reporter: Reporter) -> CaptionGenerator:
    """A generator that uses the requested matcher, or the default one, and its training images.

    Raises MissingData, UnknownName, BadModel, ConfigError, IncompatibleFeatures.
    """
    if len(request.models) > 1:
        raise ConfigError("--nearest accepts exactly one matcher", "use one --model")
    loaded = load_matcher(request.models[0] if request.models else default_model("matcher"), request.compute)
    num = override_decoding(Decoding(), request.settings).num
    train = _load_training_images(loaded, reporter)
    examples, vectors = _load_vectors(loaded, train, reporter)
    name = f"{loaded.name}, from the nearest of {len(examples):,} images of {train.name}"
    return CaptionGenerator(
        name, _NearestCaptioner(loaded, examples, unit_vectors(vectors), image_vectors(loaded), num)
    )


def _load_training_images(loaded: LoadedMatcher, reporter: Reporter) -> ImageTextDataset:
    """The captioned images that the matcher was trained on. Raises ConfigError, MissingData."""
    facts = loaded.info.header.dataset
    name = facts.get("name")
    if not name:
        raise ConfigError(
            f"the training dataset of {loaded.name} is unknown", "use a matcher that was trained with xmodal"
        )
    try:
        dataset = load_dataset(name)
    except (MissingData, UnknownName) as error:
        raise MissingData(
            f"{loaded.name} was trained on {name}, which is not available: {error.message}",
            f"add it: xmodal data add {name} PATH",
        ) from error
    if facts.get("fingerprint") not in (None, fingerprint(dataset)):
        reporter.warn(f"the dataset {name} has changed since {loaded.name} was trained on it")
    return select_captioned(dataset, *facts.get("splits", ("train",)))


def _load_vectors(
    loaded: LoadedMatcher, train: ImageTextDataset, reporter: Reporter
) -> tuple[Sequence[Example], np.ndarray]:
    """The readable images and their vectors (images, embed_dim) float32, from the cache if possible."""
    from safetensors.numpy import save_file

    file = cache_dir() / "nearest" / f"{loaded.info.fingerprint[:16]}-{fingerprint(train)[:16]}.safetensors"
    by_id = {example.image_id: example for example in train.examples}
    cached = _read_cache(file)
    if cached is not None and all(image_id in by_id for image_id in cached[0]):
        return [by_id[image_id] for image_id in cached[0]], cached[1]
    readable, vectors = embed_images(loaded, train, reporter)
    with contextlib.suppress(StorageError), atomic_path(file) as draft:  # it can be computed again
        save_file({"images": np.ascontiguousarray(vectors)}, draft, {"ids": json.dumps(readable.ids)})
    return readable.examples, vectors


def _read_cache(file: Path) -> tuple[list[str], np.ndarray] | None:
    from safetensors import safe_open

    with contextlib.suppress(Exception), safe_open(file, "np") as opened:  # it is computed again
        ids: list[str] = parse_json(opened.metadata()["ids"])
        vectors: np.ndarray = opened.get_tensor("images")
        return (ids, vectors) if len(ids) == len(vectors) else None
    return None


@dataclass(frozen=True)
class _NearestCaptioner:
    """Images to captions. ``vectors`` (images, embed_dim) are the unit vectors of the images ``train``."""

    loaded: LoadedMatcher
    train: Sequence[Example]
    vectors: np.ndarray
    embed: InputVectors
    num: int

    def __call__(self, images: Sequence[ImageInput]) -> CaptionResults:
        encoded = self.embed(images)
        while chunk := list(islice(encoded, _BATCH)):
            readable = [vector for _, vector in chunk if not isinstance(vector, Unreadable)]
            captions = self._captions(np.stack(readable)) if readable else iter(())
            for path, vector in chunk:
                yield path, vector if isinstance(vector, Unreadable) else next(captions)

    def _captions(self, photos: np.ndarray) -> Iterator[list[Caption]]:
        """(photos, embed_dim) -> the best captions of each photo, among those of its nearest images."""
        count = min(max(NUM_NEIGHBORS, self.num), len(self.train))
        # cosine also for order similarity, which is not symmetric
        similarities = unit_vectors(photos) @ self.vectors.T
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
        texts = list(dict.fromkeys(c for row in np.unique(nearest) for c in self.train[row].captions))
        scores = self._scores(photos, self.loaded.embed_texts(texts))
        column = {text: index for index, text in enumerate(texts)}
        for photo, rows in enumerate(nearest):
            candidates = dict.fromkeys(c for row in rows for c in self.train[row].captions)
            best = sorted(candidates, key=lambda text: -scores[photo, column[text]])[: self.num]
            yield [Caption(text, float(scores[photo, column[text]]), text.split(), None) for text in best]

    def _scores(self, photos: np.ndarray, texts: np.ndarray) -> Any:
        """(photos, texts) similarities."""
        return self.loaded.model.similarity(torch.from_numpy(photos), torch.from_numpy(texts)).float().numpy()
